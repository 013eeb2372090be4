# The same with the decode head for any names: no score map joins the FPN, the head sharpens it.
_base_ = './camvid_lite0_denseclip.py'
model = dict(
    neck=dict(score_map_index=None),
    decode_head=dict(
        type='CostAggregationHead',
        score_map_stride=32,
        tau=0.07,
        class_dropout=0))  # the names of the test are those of the training, and see all labels
