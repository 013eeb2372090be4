# DenseCLIP, CLIP RN101, ADE20K: published 45.1 mIoU (single scale), 46.5 (multi-scale).
_base_ = '../_base_/denseclip_ade20k.py'
clip = dict(model='RN101-quickgelu')
model = dict(backbone=clip, neck=dict(text_encoder=clip))
