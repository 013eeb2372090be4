# CLIP RN50 + Mask R-CNN without language, COCO: published 39.3 box AP, 36.8 mask AP; not run here.
# tools/dist_train.sh configs/detection/clip_mask_rcnn_r50_coco.py 8 --amp  # 4.0 GB a GPU
_base_ = ['../_base_/models/model_clip_mask_rcnn_r50.py', '../_base_/datasets/coco_instance.py',
          '../_base_/schedules/schedule_1x.py', '../_base_/detection_runtime.py']
optim_wrapper = dict(optimizer=dict(lr=2e-4))
