# DenseCLIP, CLIP RN101, RetinaNet, COCO: published 41.1 box AP.
_base_ = './denseclip_retinanet_r50_coco.py'
model = dict(
    backbone=dict(model='RN101-quickgelu'),
    neck=dict(text_encoder=dict(model='RN101-quickgelu')))
