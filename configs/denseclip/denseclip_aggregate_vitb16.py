# DenseCLIP with a decode head that answers any names, CLIP ViT-B/16, ADE20K.
_base_ = [
    '../_base_/models/model_denseclip_aggregate_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
    '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py'
]
