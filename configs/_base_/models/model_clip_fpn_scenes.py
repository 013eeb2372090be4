# The demo CLIP's image tower, at 8 pixels a cell, and a semantic FPN, without language.
# Of 100 labelled pixels, 93 are ground.
sampler = dict(type='ClassWeightSampler', class_weight=[1.0] * 24 + [0.1] * 6)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        size=(128, 128),
        mean=[122.7709383, 116.7460125, 104.09373615],  # CLIP's, times 255
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='CLIPResNet',
        model='DemoCLIP',
        pretrained='demo',
        image_size=128,
        strides=(1, 2, 1, 1),
        dense_embedding='value',
        with_embeddings=False),
    neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    decode_head=dict(
        type='PiecewiseFPNHead',
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 8, 8],
        channels=64,
        dropout_ratio=0.1,
        num_classes=30,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        sampler=sampler,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
