_base_ = './files.py'
dataset_type = 'ADE20KDataset'
data_root = 'data/ade/ADEChallengeData2016'
train_pipeline = _base_.train_pipeline
train_pipeline[1].reduce_zero_label = True  # LoadAnnotations
test_pipeline = _base_.test_pipeline
test_pipeline[2].reduce_zero_label = True
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[2][0].reduce_zero_label = True
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
