# DenseCLIP with a decode head that answers any names, CLIP RN50, ADE20K.
_base_ = [
    '../_base_/models/model_denseclip_aggregate_r50.py', '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py'
]
