# DenseCLIP on an ImageNet EfficientNet-Lite0: a new attention pool learns to speak the language of
# text that CLIP ViT-L/14 embedded elsewhere. tools/demo/prepare_camvid.py writes weights and text.
_base_ = './camvid_lite0_fpn.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='AlignedBackbone',
        embed_dim=768,
        head_channels=64,
        image_size=_base_.crop_size,
        backbone=_base_.lite0),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=None,
        prompt=dict(
            type='TextEmbeddings', embed_dim=768, path='data/camvid_lite0/text_embeddings.npy'),
        class_names=_base_.classes,
        context_decoder=dict(
            type='ContextDecoder', width=128, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3,
        neck=dict(type='FPN', in_channels=[24, 40, 112, 320], out_channels=64, num_outs=4)),
    auxiliary_head=dict(
        type='ScoreMapHead',
        in_index=4,
        num_classes=11,
        tau=0.07,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)))
# The pool starts from random weights, so it learns at the rate of the heads.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.pool': dict(lr_mult=1.0)}))
