# DenseCLIP, ConvNeXt-B of LAION-2B, ADE20K.
_base_ = './denseclip_fpn_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPTIMMBackbone',
        model='convnext_base_w',
        pretrained='laion2b_s13b_b82k_augreg'),
    neck=dict(
        text_encoder=dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg'),
        neck=dict(in_channels=[128, 256, 512, 1024])))
