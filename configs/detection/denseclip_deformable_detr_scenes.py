# Deformable DETR, guided, on 200 labelled scenes: queries in place of anchors. It learns far slower
# than the others. AP not measured.
# python tools/train.py configs/detection/denseclip_deformable_detr_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_mask_rcnn_scenes.py', '../_base_/datasets/things.py',
          '../_base_/schedules/schedule_things.py', '../_base_/detection_runtime.py']
guided = _base_.model
layer = dict(
    self_attn_cfg=dict(embed_dims=64, num_heads=4),
    ffn_cfg=dict(embed_dims=64, feedforward_channels=256))
deformable = dict(embed_dims=64, num_heads=4, num_levels=4, num_points=4)
model = dict(
    _delete_=True,
    type='ScoreMapDetector',
    detector='DeformableDETR',
    score_map_loss=guided.score_map_loss,
    data_preprocessor=dict(guided.data_preprocessor, pad_mask=False),
    backbone=guided.backbone,
    neck=dict(
        guided.neck,
        class_names=_base_.base_things,
        neck=dict(
            type='ChannelMapper',
            in_channels=[64, 128, 256, 512],
            kernel_size=1,
            out_channels=64,
            act_cfg=None,
            norm_cfg=dict(type='GN', num_groups=8),
            num_outs=4)),
    num_queries=30,
    num_feature_levels=4,
    encoder=dict(num_layers=2, layer_cfg=dict(layer, self_attn_cfg=deformable)),
    decoder=dict(
        num_layers=2,
        return_intermediate=True,
        post_norm_cfg=None,
        layer_cfg=dict(layer, cross_attn_cfg=deformable)),
    positional_encoding=dict(num_feats=32, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        num_classes=24,
        embed_dims=64,
        sync_cls_avg_factor=True,
        loss_cls=dict(
            type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0)
            ])),
    test_cfg=dict(max_per_img=20))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
log_processor = dict(by_epoch=False)
