# CamVid with 11 classes, labels 0 to 10 and 255 for void:
# data/camvid/{images,annotations}/{train,val}, images .jpg, labels .png.
_base_ = './files.py'
classes = [
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian',
    'bicyclist'
]
palette = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
           [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
dataset_type = 'BaseSegDataset'
data_root = 'data/camvid'
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (960, 720)  # RandomResize
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (960, 720)  # Resize
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(int(960 * ratio), int(720 * ratio)), keep_ratio=True)
    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=classes, palette=palette),
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=dict(classes=classes, palette=palette),
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
