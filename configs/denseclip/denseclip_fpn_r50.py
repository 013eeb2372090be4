# DenseCLIP, CLIP RN50, ADE20K: published 43.5 mIoU (single scale), 44.7 (multi-scale).
_base_ = [
    '../_base_/models/model_denseclip_fpn_r50.py', '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py'
]
