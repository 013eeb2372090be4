# Zero-shot: CLIP's template, no training at all (tools/test.py CONFIG none).
_base_ = [
    '../_base_/models/model_clip_score_map_scenes.py', '../_base_/datasets/scenes.py',
    '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py'
]
model = dict(neck=dict(class_names=_base_.base_classes))
