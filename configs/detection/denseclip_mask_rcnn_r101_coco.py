# DenseCLIP, CLIP RN101, Mask R-CNN, COCO: published 42.6 box AP, 39.6 mask AP.
_base_ = './denseclip_mask_rcnn_r50_coco.py'
model = dict(
    backbone=dict(model='RN101-quickgelu'),
    neck=dict(text_encoder=dict(model='RN101-quickgelu')))
