# Zero-shot ConvNeXt-B of LAION-2B on ADE20K: its pooling is a mean, so its head takes every cell.
# Not run.
# python tools/test.py configs/zero_shot/clip_convnext_base.py none
_base_ = '../_base_/prompts_ade20k.py'
clip = dict(model='convnext_base_w', pretrained='laion2b_s13b_b82k_augreg')
model = dict(
    backbone=dict(clip, _delete_=True, type='CLIPTIMMBackbone', frozen_stages=5),
    neck=dict(text_encoder=clip))
