# CLIP RN101 + RetinaNet without language, COCO: published 40.5 box AP.
_base_ = './clip_retinanet_r50_coco.py'
model = dict(backbone=dict(model='RN101-quickgelu'))
