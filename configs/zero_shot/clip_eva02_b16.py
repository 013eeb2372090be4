# Zero-shot EVA02-CLIP-B/16 on ADE20K. It pools at its class token, so the last block passes values
# on (MaskCLIP).
_base_ = './clip_r50.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPTIMMBackbone',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k',
        dense_embedding='value',
        frozen_stages=13),
    neck=dict(text_encoder=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k')))
