# DenseCLIP on ViT-B/16: the score map goes to the map of stride 16.
_base_ = './model_clip_fpn_vitb16.py'
model = dict(
    backbone=dict(with_embeddings=True),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='ViT-B-16-quickgelu', pretrained='openai'),
        prompt=dict(type='LearnedContext', num_context=8),
        class_names='ade20k',
        context_decoder=dict(
            type='ContextDecoder', width=256, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=2,
        neck=dict(type='FPN', in_channels=[768, 768, 768, 768], out_channels=256, num_outs=4)),
    auxiliary_head=dict(
        type='ScoreMapHead',
        in_index=4,
        num_classes=150,
        tau=0.07,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)))
