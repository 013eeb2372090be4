# DenseCLIP on any backbone (DenseCLIP, section 3.4): an ImageNet ResNet-50 and CLIP's text tower.
_base_ = '../_base_/denseclip_ade20k.py'
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='AlignedBackbone',
        embed_dim=1024,
        image_size=512,
        backbone=dict(
            type='ResNet',
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            style='pytorch',
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))))
