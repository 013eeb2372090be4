# CLIP RN101 + FPN without language, ADE20K: published 42.7 mIoU (single scale), 44.3 (multi-scale).
_base_ = './clip_fpn_r50.py'
model = dict(backbone=dict(model='RN101-quickgelu'))
