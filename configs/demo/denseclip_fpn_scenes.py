# DenseCLIP, post-model prompting, on 200 labelled scenes.
_base_ = ['../_base_/models/model_denseclip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
model = dict(neck=dict(class_names=_base_.base_classes))
