# DenseCLIP with a decode head that answers any names, on 200 labelled scenes: 77.4 ± 0.6 mIoU of
# base names, 90.8 ± 2.7 of new ones (docs/results.md, Margins); 76.93 in make demo.
# python tools/train.py configs/demo/denseclip_aggregate_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(score_map_index=None, class_names=_base_.base_classes),
    decode_head=dict(type='CostAggregationHead', score_map_stride=8, tau=0.07))
