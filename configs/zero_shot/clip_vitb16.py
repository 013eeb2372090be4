# Zero-shot CLIP ViT-B/16 on ADE20K. Neighbour attention: NACLIP's paper has 17.4 mIoU with it and
# 14.2 with MaskCLIP's values (its own crops and templates); not measured here.
_base_ = './clip_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPVisionTransformer',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        image_size=512,
        dense_embedding='neighbour',
        frozen_stages=13),
    neck=dict(text_encoder=dict(model='ViT-B-16-quickgelu')))
