# The demo CLIP's image tower and a small Mask R-CNN, without language. The last three maps have
# cells of 8 pixels: each level has anchors of one size.
_base_ = './model_clip_mask_rcnn_r50.py'
model = dict(
    backbone=dict(
        model='DemoCLIP',
        pretrained='demo',
        image_size=128,
        strides=(1, 2, 1, 1),
        dense_embedding='value'),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(
            scales=[1.0], ratios=[1.0], strides=[4, 8, 8, 8], base_sizes=[16, 24, 32, 42])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[4]),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=24),
        mask_roi_extractor=dict(out_channels=64, featmap_strides=[4]),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=24)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=20)))
