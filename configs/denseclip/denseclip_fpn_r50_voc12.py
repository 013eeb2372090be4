# DenseCLIP, CLIP RN50, Pascal VOC 2012: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r50_voc12.py 8 --amp  # 2.7 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py',
          '../_base_/datasets/pascal_voc12_512x512.py', '../_base_/schedules/schedule_80k.py',
          '../_base_/default_runtime.py']
model = dict(
    neck=dict(class_names='voc'),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21))
