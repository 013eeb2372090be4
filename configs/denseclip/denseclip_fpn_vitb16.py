# DenseCLIP, CLIP ViT-B/16, ADE20K: published 50.6 mIoU (single scale), 51.3 (multi-scale).
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
