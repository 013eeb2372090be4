# DenseCLIP, CLIP RN101, Mask R-CNN, COCO: published 42.6 box AP, 39.6 mask AP; not run here.
# tools/dist_train.sh configs/detection/denseclip_mask_rcnn_r101_coco.py 8
_base_ = ['../_base_/models/model_denseclip_mask_rcnn_r50.py',
          '../_base_/datasets/coco_instance.py', '../_base_/schedules/schedule_1x.py',
          '../_base_/detection_runtime.py']
clip = dict(model='RN101-quickgelu')
model = dict(backbone=clip, neck=dict(text_encoder=clip))
optim_wrapper = dict(optimizer=dict(lr=2e-4))
