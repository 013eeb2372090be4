# DenseCLIP, PE-Core-B/16, ADE20K: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_pe_core_b16.py 8 --amp  # 8.0 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
clip = dict(model='PE-Core-B-16', pretrained='meta')
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone'),
    neck=dict(text_encoder=clip))
