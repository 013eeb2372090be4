# DenseCLIP, CLIP RN50, RetinaNet, COCO: published 37.8 box AP; not run here.
# tools/dist_train.sh configs/detection/denseclip_retinanet_r50_coco.py 8
_base_ = ['../_base_/models/model_denseclip_retinanet_r50.py',
          '../_base_/datasets/coco_detection.py', '../_base_/schedules/schedule_1x.py',
          '../_base_/detection_runtime.py']
