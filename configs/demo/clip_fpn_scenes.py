# The demo CLIP and a semantic FPN without language: what DenseCLIP is compared with.
_base_ = ['../_base_/models/model_clip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
