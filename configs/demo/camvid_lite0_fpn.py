# CamVid with an ImageNet EfficientNet-Lite0 and a semantic FPN, without language: what the two
# others are compared with. tools/demo/prepare_camvid.py writes the weights. 34.6 ± 0.3 mIoU
# (tools/demo/compare_camvid.py, three seeds).
# python tools/train.py configs/demo/camvid_lite0_fpn.py  # minutes on a CPU
_base_ = ['../_base_/models/model_lite0_fpn.py', '../_base_/datasets/camvid_224x224.py',
          '../_base_/schedules/schedule_300.py', '../_base_/default_runtime.py']
