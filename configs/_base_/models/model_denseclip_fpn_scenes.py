# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = './model_clip_fpn_scenes.py'
model = dict(
    backbone=dict(with_embeddings=True),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='DemoCLIP', pretrained='demo'),
        prompt=dict(type='LearnedContext', num_context=8),
        context_decoder=dict(
            type='ContextDecoder', width=64, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3,
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4)),
    auxiliary_head=dict(
        type='ScoreMapHead',
        in_index=4,
        num_classes=30,
        tau=0.07,
        sampler=_base_.sampler,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)))
