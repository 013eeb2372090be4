# DenseCLIP with a decode head for any names: no score map joins the FPN, the head sharpens it.
_base_ = './model_denseclip_fpn_r50.py'
model = dict(
    neck=dict(score_map_index=None),
    decode_head=dict(
        type='CostAggregationHead', score_map_stride=32, tau=0.07, channels=128))
