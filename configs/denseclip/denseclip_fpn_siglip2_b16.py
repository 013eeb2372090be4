# DenseCLIP, SigLIP2-B/16, ADE20K: not run. The tokenizer is of Hugging Face (extra transformers).
# tools/dist_train.sh configs/denseclip/denseclip_fpn_siglip2_b16.py 8
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
clip = dict(model='ViT-B-16-SigLIP2-512', pretrained='webli')
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone'),
    neck=dict(text_encoder=clip))
