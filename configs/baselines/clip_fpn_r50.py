# CLIP RN50 + FPN without language, ADE20K: published 39.6 mIoU, 41.6 multi-scale; not run here.
# tools/dist_train.sh configs/baselines/clip_fpn_r50.py 8 --amp  # 2.0 GB a GPU
_base_ = ['../_base_/models/model_clip_fpn_r50.py', '../_base_/datasets/ade20k_512x512.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
