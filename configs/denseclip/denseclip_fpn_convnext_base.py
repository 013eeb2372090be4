# DenseCLIP, ConvNeXt-B of LAION-2B, ADE20K: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_convnext_base.py 8 --amp  # 5.2 GB a GPU
_base_ = '../_base_/denseclip_ade20k.py'
clip = dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg')
model = dict(
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone'),
    neck=dict(text_encoder=clip, neck=dict(in_channels=[128, 256, 512, 1024])))
