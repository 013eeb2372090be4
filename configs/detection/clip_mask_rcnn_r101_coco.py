# CLIP RN101 + Mask R-CNN without language, COCO: published 42.2 box AP, 38.9 mask AP.
_base_ = './clip_mask_rcnn_r50_coco.py'
model = dict(backbone=dict(model='RN101-quickgelu'))
