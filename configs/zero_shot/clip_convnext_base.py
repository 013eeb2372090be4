# Zero-shot ConvNeXt-B of LAION-2B on ADE20K: its pooling is a mean, so its head takes every cell.
_base_ = './clip_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPTIMMBackbone',
        model='convnext_base_w',
        pretrained='laion2b_s13b_b82k_augreg',
        frozen_stages=5),
    neck=dict(text_encoder=dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg')))
