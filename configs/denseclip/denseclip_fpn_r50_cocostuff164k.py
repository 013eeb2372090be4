# DenseCLIP, CLIP RN50, COCO-Stuff 164k: not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r50_cocostuff164k.py 8 --amp  # 2.8 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py',
          '../_base_/datasets/coco_stuff164k_512x512.py', '../_base_/schedules/schedule_80k.py',
          '../_base_/default_runtime.py']
model = dict(
    neck=dict(class_names='cocostuff164k'),
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171))
