# DenseCLIP, post-model prompting, on 200 labelled scenes: +0.2 ± 0.8 mIoU to the same network
# without language, -3.7 ± 0.6 by its score map (docs/results.md, Margins).
# python tools/train.py configs/demo/denseclip_fpn_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
model = dict(neck=dict(class_names=_base_.base_classes))
