# The CamVid config where there is neither GPU nor network: the full-size model from random weights,
# small crops, 300 iterations: 37.96 mIoU. It shows that everything runs, not how well DenseCLIP
# segments.
# python tools/train.py configs/demo/denseclip_fpn_r50_camvid_cpu.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_fpn_r50.py', '../_base_/datasets/camvid_224x224.py',
          '../_base_/schedules/schedule_300.py', '../_base_/default_runtime.py']
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(pretrained=None, image_size=_base_.crop_size),
    neck=dict(text_encoder=dict(pretrained=None), class_names=_base_.classes),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
    test_cfg=dict(_delete_=True, mode='whole'))
