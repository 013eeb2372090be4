# DenseCLIP, CLIP RN50, ADE20K: published 43.5 mIoU, 44.7 multi-scale; not run here.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r50.py 8 --amp  # 2.8 GB a GPU
_base_ = '../_base_/denseclip_ade20k.py'
