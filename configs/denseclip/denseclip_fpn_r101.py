# DenseCLIP, CLIP RN101, ADE20K: published 45.1 mIoU, 46.5 multi-scale; not run here.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r101.py 8 --amp  # 3.4 GB a GPU
_base_ = '../_base_/denseclip_ade20k.py'
clip = dict(model='RN101-quickgelu')
model = dict(backbone=clip, neck=dict(text_encoder=clip))
