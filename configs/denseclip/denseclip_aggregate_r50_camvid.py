# DenseCLIP with a decode head that answers any names, CLIP RN50, CamVid: not run.
# tools/dist_train.sh configs/denseclip/denseclip_aggregate_r50_camvid.py 8 --amp  # 6.5 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py', '../_base_/datasets/camvid_512x512.py',
          '../_base_/schedules/schedule_4k.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(score_map_index=None, class_names={{_base_.classes}}),
    decode_head=dict(
        type='CostAggregationHead', score_map_stride=32, tau=0.07, channels=128, num_classes=11),
    auxiliary_head=dict(num_classes=11))
