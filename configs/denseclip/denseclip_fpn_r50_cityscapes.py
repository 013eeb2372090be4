# DenseCLIP, CLIP RN50, Cityscapes: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r50_cityscapes.py 8 --amp  # 2.7 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py',
          '../_base_/datasets/cityscapes_512x1024.py', '../_base_/schedules/schedule_80k.py',
          '../_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(image_size=(512, 1024)),
    neck=dict(class_names='cityscapes'),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
    test_cfg=dict(_delete_=True, mode='whole'))
