# CLIP as it is, frozen, segmenting by its score map alone: zero-shot, and the base of CoOp, CoCoOp.
_base_ = './model_clip_fpn_scenes.py'
model = dict(
    # the best of the three on scenes that no figure of the docs is of
    backbone=dict(with_embeddings=True, frozen_stages=5, dense_embedding='value-value'),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='DemoCLIP', pretrained='demo'),
        prompt=dict(type='TemplatePrompt', templates='a photo of a {}.')),
    decode_head=dict(
        _delete_=True,
        type='ScoreMapHead',
        num_classes=30,
        tau=0.03,
        sampler=_base_.sampler,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)))
