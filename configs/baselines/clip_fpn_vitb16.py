# CLIP ViT-B/16 + FPN without language, ADE20K: published 49.4 mIoU, 50.3 multi-scale; not run here.
# tools/dist_train.sh configs/baselines/clip_fpn_vitb16.py 8 --amp  # 5.3 GB a GPU
_base_ = ['../_base_/models/model_clip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
