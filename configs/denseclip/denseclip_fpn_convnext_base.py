# DenseCLIP, ConvNeXt-B of LAION-2B, ADE20K.
_base_ = '../_base_/denseclip_ade20k.py'
clip = dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg')
model = dict(
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone'),
    neck=dict(text_encoder=clip, neck=dict(in_channels=[128, 256, 512, 1024])))
