# DenseCLIP on an ImageNet EfficientNet-Lite0 and text that CLIP ViT-L/14 embedded elsewhere,
# CamVid. tools/demo/prepare_camvid.py writes weights and text. 34.5 ± 1.7 mIoU
# (tools/demo/compare_camvid.py, three seeds).
# python tools/train.py configs/demo/camvid_lite0_denseclip.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_lite0.py', '../_base_/datasets/camvid_224x224.py',
          '../_base_/schedules/schedule_300.py', '../_base_/default_runtime.py']
model = dict(neck=dict(class_names=_base_.classes))
# The pool starts from random weights, so it learns at the rate of the heads.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.pool': dict(lr_mult=1.0)}))
