# The demo CLIP and a small Mask R-CNN without language: what DenseCLIP is compared with.
_base_ = ['../_base_/models/model_clip_mask_rcnn_scenes.py', '../_base_/datasets/things.py',
          '../_base_/schedules/schedule_things.py', '../_base_/detection_runtime.py']
log_processor = dict(by_epoch=False)
