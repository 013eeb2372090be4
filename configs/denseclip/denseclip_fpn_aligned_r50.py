# DenseCLIP on any backbone (DenseCLIP, section 3.4), ADE20K: an ImageNet ResNet-50 and the text
# tower of CLIP's RN50. Not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_aligned_r50.py 8 --amp  # 2.7 GB a GPU
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
