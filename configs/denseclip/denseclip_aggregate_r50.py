# DenseCLIP with a decode head that answers any names, CLIP RN50, ADE20K: not run.
# tools/dist_train.sh configs/denseclip/denseclip_aggregate_r50.py 8 --amp  # 2.7 GB a GPU
_base_ = '../_base_/denseclip_ade20k.py'
model = dict(
    neck=dict(score_map_index=None),
    decode_head=dict(
        type='CostAggregationHead', score_map_stride=32, tau=0.07, channels=128))
