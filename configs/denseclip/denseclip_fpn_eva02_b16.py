# DenseCLIP, EVA02-CLIP-B/16, ADE20K: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_eva02_b16.py 8 --amp  # 7.1 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
clip = dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k')
model = dict(
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone'),
    neck=dict(text_encoder=clip))
