# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = './model_clip_fpn_r50.py'
model = dict(
    backbone=dict(with_embeddings=True),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='RN50-quickgelu', pretrained='openai'),
        prompt=dict(type='LearnedContext', num_context=8),
        class_names='ade20k',
        context_decoder=dict(
            type='ContextDecoder', width=256, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3,
        neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=4)),
    auxiliary_head=dict(
        type='ScoreMapHead',
        in_index=4,
        num_classes=150,
        tau=0.07,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)))
