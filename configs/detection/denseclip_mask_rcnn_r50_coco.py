# DenseCLIP, CLIP RN50, Mask R-CNN, COCO: published 40.2 box AP, 37.6 mask AP; not run here.
# tools/dist_train.sh configs/detection/denseclip_mask_rcnn_r50_coco.py 8
_base_ = ['../_base_/models/model_denseclip_mask_rcnn_r50.py',
          '../_base_/datasets/coco_instance.py', '../_base_/schedules/schedule_1x.py',
          '../_base_/detection_runtime.py']
optim_wrapper = dict(optimizer=dict(lr=2e-4))
