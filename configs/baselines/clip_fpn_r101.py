# CLIP RN101 + FPN without language, ADE20K: published 42.7 mIoU, 44.3 multi-scale; not run here.
# tools/dist_train.sh configs/baselines/clip_fpn_r101.py 8 --amp  # 2.7 GB a GPU
_base_ = ['../_base_/models/model_clip_fpn_r50.py', '../_base_/datasets/ade20k_512x512.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
model = dict(backbone=dict(model='RN101-quickgelu'))
