# Zero-shot CLIP ViT-B/16 on ADE20K. Neighbour attention: NACLIP's paper has 17.4 mIoU with it and
# 14.2 with MaskCLIP's values (its own crops and templates). Not run.
# python tools/test.py configs/zero_shot/clip_vitb16.py none
_base_ = '../_base_/prompts_ade20k.py'
clip = dict(model='ViT-B-16-quickgelu', pretrained='openai')
model = dict(
    backbone=dict(
        clip, _delete_=True, type='CLIPVisionTransformer', image_size=512,
        dense_embedding='neighbour', frozen_stages=13),
    neck=dict(text_encoder=clip))
