# CLIP RN50 + FPN without language, CamVid.
_base_ = ['../_base_/models/model_clip_fpn_r50.py', '../_base_/datasets/camvid_512x512.py',
          '../_base_/schedules/schedule_4k.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(num_classes=11))
