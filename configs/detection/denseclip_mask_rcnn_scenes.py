# DenseCLIP's Mask R-CNN on 200 labelled scenes: 81.9 ± 0.5 box AP, 81.8 ± 0.3 mask AP
# (tools/demo/compare_detection.py, three seeds).
# python tools/train.py configs/detection/denseclip_mask_rcnn_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_mask_rcnn_scenes.py', '../_base_/datasets/things.py',
          '../_base_/schedules/schedule_things.py', '../_base_/detection_runtime.py']
model = dict(neck=dict(class_names=_base_.base_things))
log_processor = dict(by_epoch=False)
