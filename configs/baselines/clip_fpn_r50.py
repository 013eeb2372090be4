# CLIP RN50 + FPN without language, ADE20K: published 39.6 mIoU (single scale), 41.6 (multi-scale).
_base_ = ['../_base_/models/model_clip_fpn_r50.py', '../_base_/datasets/ade20k_512x512.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
