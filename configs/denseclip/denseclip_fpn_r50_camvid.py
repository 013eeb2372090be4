# DenseCLIP, CLIP RN50, CamVid: the smallest real dataset, and a pattern for your own. Not run.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_r50_camvid.py 8 --amp  # 7.3 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py', '../_base_/datasets/camvid_512x512.py',
          '../_base_/schedules/schedule_4k.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(class_names={{_base_.classes}}),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11))
