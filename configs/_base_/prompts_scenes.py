# CLIP on scenes, both towers frozen: tested as it is (zero-shot), or its prompts are learned.
_base_ = ['./models/model_clip_score_map_scenes.py', './datasets/scenes.py',
          './schedules/schedule_scenes.py', './default_runtime.py']
model = dict(neck=dict(class_names=_base_.base_classes))
