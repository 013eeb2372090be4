# DenseCLIP on the embedded scenes, with towers that two CPU cores can train; no files are fetched.
_base_ = '../_base_/default_runtime.py'
clip = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(image_size=128, layers=[1, 1, 1, 1], width=16),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=4, layers=3))
classes = [
    *(f'{colour} {shape}' for colour in ('red', 'green', 'blue', 'yellow', 'purple', 'orange')
      for shape in ('circle', 'square', 'triangle', 'star', 'cross', 'ring')),
    'grass', 'sand', 'water', 'brick wall', 'wooden floor', 'snow'
]
# Nine pixels of ten are ground.
class_weight = [1.0] * 36 + [0.1] * 6
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        size=(128, 128),
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        seg_pad_val=255),
    backbone=dict(type='CLIPResNet', model=clip, image_size=128),
    neck=dict(
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model=clip),
        prompt=dict(type='LearnedContext', num_context=8),
        class_names=classes,
        context_decoder=dict(
            type='ContextDecoder', width=64, num_heads=4, num_layers=2, dropout=0.1),
        score_map_index=3,
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4)),
    decode_head=dict(
        type='FPNHead',
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.1,
        num_classes=42,
        norm_cfg=norm_cfg,
        loss_decode=dict(
            type='CrossEntropyLoss', loss_weight=1.0, class_weight=class_weight)),
    auxiliary_head=dict(
        type='ScoreMapHead',
        in_index=4,
        num_classes=42,
        tau=0.07,
        loss_decode=dict(
            type='CrossEntropyLoss', loss_weight=0.4, class_weight=class_weight)),
    test_cfg=dict(mode='whole'))

# Scenes are drawn in memory: their pipelines have no loading steps. Files go through test_pipeline.
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]
scene_pipeline = [dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='ScenesDataset', length=4000, seed=0, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ScenesDataset', length=200, seed=1, pipeline=scene_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=20, end=300),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=300, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
custom_hooks = [dict(type='CheckClassesHook'), dict(type='CompareValHook')]
randomness = dict(seed=0)
