# DenseCLIP with a decode head that answers any names, CLIP ViT-B/16, ADE20K: not run.
# tools/dist_train.sh configs/denseclip/denseclip_aggregate_vitb16.py 8 --amp  # 6.2 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(score_map_index=None),
    decode_head=dict(
        type='CostAggregationHead', score_map_stride=16, tau=0.07, channels=128))
