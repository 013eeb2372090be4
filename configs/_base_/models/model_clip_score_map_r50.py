# CLIP RN50 as it is, frozen, segmenting by its score map alone. Value-value attention was the best
# on scenes, with the demo CLIP; it has not been measured with this one.
_base_ = './model_clip_fpn_r50.py'
model = dict(
    backbone=dict(with_embeddings=True, frozen_stages=5, dense_embedding='value-value'),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='RN50-quickgelu', pretrained='openai'),
        prompt=dict(type='TemplatePrompt', templates='a photo of a {}.'),
        class_names='ade20k'),
    decode_head=dict(
        _delete_=True,
        type='ScoreMapHead',
        num_classes=150,
        tau=0.01,  # CLIP's own
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)))
