# DenseCLIP on an ImageNet EfficientNet-Lite0, CamVid, with the decode head for any names: no score
# map joins the FPN, the head sharpens it. 25.9 ± 2.5 mIoU (tools/demo/compare_camvid.py, three
# seeds).
# python tools/train.py configs/demo/camvid_lite0_aggregate.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_lite0.py', '../_base_/datasets/camvid_224x224.py',
          '../_base_/schedules/schedule_300.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(score_map_index=None, class_names=_base_.classes),
    decode_head=dict(
        type='CostAggregationHead',
        score_map_stride=32,
        tau=0.07,
        class_dropout=0))  # the names of the test are those of the training, and see all labels
# The pool starts from random weights, so it learns at the rate of the heads.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.pool': dict(lr_mult=1.0)}))
