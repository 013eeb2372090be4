# Boxes and masks of the things of scenes, drawn in memory, in COCO's format; the 24 base things of
# ./scenes.py have labels, the 12 new ones are background, as in open-vocabulary detection.
base_things = [
    f'{colour} {shape}'
    for i, colour in enumerate(('red', 'green', 'blue', 'yellow', 'purple', 'orange'))
    for j, shape in enumerate(('circle', 'square', 'triangle', 'star', 'cross', 'ring'))
    if (j - i) % 6 not in (2, 3)
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        ann_file='scene://128/things-0-200.json',
        data_prefix=dict(img='scene://128'),
        metainfo=dict(classes=base_things),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        ann_file='scene://128/things-1-200.json',
        data_prefix=dict(img='scene://128'),
        metainfo=dict(classes=base_things),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file='scene://128/things-1-200.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
