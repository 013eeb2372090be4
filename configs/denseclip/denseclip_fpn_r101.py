# DenseCLIP, CLIP RN101, ADE20K: published 45.1 mIoU (single scale), 46.5 (multi-scale).
_base_ = './denseclip_fpn_r50.py'
model = dict(
    backbone=dict(model='RN101-quickgelu'),
    neck=dict(text_encoder=dict(model='RN101-quickgelu')))
