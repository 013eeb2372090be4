# Scenes, drawn in memory: 24 base things and 6 grounds have labels, the 12 new things are 255.
base_classes = [
    *(f'{colour} {shape}'
      for i, colour in enumerate(('red', 'green', 'blue', 'yellow', 'purple', 'orange'))
      for j, shape in enumerate(('circle', 'square', 'triangle', 'star', 'cross', 'ring'))
      if (j - i) % 6 not in (2, 3)),
    'grass', 'sand', 'water', 'brick wall', 'wooden floor', 'snow'
]
# Pipelines of scenes have no loading steps. Files go through test_pipeline.
train_pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]
scene_pipeline = [dict(type='PackSegInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ScenesDataset',
        length=200,
        seed=0,
        metainfo=dict(classes=base_classes),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ScenesDataset',
        length=200,
        seed=1,
        metainfo=dict(classes=base_classes),
        pipeline=scene_pipeline,
        test_mode=True))
# Loaded again by their paths: MMSegInferencer puts its own loader in LoadImageFromFile's place.
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'],
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
