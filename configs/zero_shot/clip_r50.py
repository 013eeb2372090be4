# Zero-shot CLIP RN50 on ADE20K: one template, no training (tools/test.py CONFIG none).
_base_ = [
    '../_base_/models/model_clip_score_map_r50.py', '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/schedule_coop.py', '../_base_/default_runtime.py'
]
