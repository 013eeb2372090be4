# CLIP RN101 + Mask R-CNN without language, COCO: published 42.2 box AP, 38.9 mask AP; not run here.
# tools/dist_train.sh configs/detection/clip_mask_rcnn_r101_coco.py 8 --amp  # 5.2 GB a GPU
_base_ = ['../_base_/models/model_clip_mask_rcnn_r50.py', '../_base_/datasets/coco_instance.py',
          '../_base_/schedules/schedule_1x.py', '../_base_/detection_runtime.py']
model = dict(backbone=dict(model='RN101-quickgelu'))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
