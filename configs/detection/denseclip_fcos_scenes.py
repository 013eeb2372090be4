# FCOS, guided, on 200 labelled scenes: no anchors, no second stage. AP not measured.
# python tools/train.py configs/detection/denseclip_fcos_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_mask_rcnn_scenes.py', '../_base_/datasets/things.py',
          '../_base_/schedules/schedule_things.py', '../_base_/detection_runtime.py']
guided = _base_.model
model = dict(
    _delete_=True,
    type='ScoreMapDetector',
    detector='FCOS',
    score_map_loss=guided.score_map_loss,
    data_preprocessor=dict(guided.data_preprocessor, pad_mask=False),
    backbone=guided.backbone,
    neck=dict(
        guided.neck,
        class_names=_base_.base_things,
        neck=dict(
            type='FPN',
            in_channels=[64, 128, 256, 512],
            out_channels=64,
            start_level=3,
            add_extra_convs='on_output',
            num_outs=3)),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=24,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32],
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
        norm_cfg=dict(type='GN', num_groups=8)),
    test_cfg=dict(
        nms_pre=200,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=20))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
log_processor = dict(by_epoch=False)
