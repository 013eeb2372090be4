# Zero-shot CLIP ViT-B/16 on ADE20K.
_base_ = './clip_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPVisionTransformer',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        image_size=512,
        dense_embedding='value',
        frozen_stages=13),
    neck=dict(text_encoder=dict(model='ViT-B-16-quickgelu')))
