# The head for any names on ViT-B/16, whose score map has cells of 16 pixels.
_base_ = './model_denseclip_fpn_vitb16.py'
model = dict(
    neck=dict(score_map_index=None),
    decode_head=dict(
        type='CostAggregationHead', score_map_stride=16, tau=0.07, channels=128))
