# CLIP RN50 + RetinaNet without language, COCO: published 36.9 box AP; not run here.
# tools/dist_train.sh configs/detection/clip_retinanet_r50_coco.py 8 --amp  # 3.4 GB a GPU
_base_ = ['../_base_/models/model_clip_retinanet_r50.py', '../_base_/datasets/coco_detection.py',
          '../_base_/schedules/schedule_1x.py', '../_base_/detection_runtime.py']
