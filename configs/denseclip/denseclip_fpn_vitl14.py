# DenseCLIP, ViT-L/14 of DFN-2B, ADE20K: not run. The maps have strides of 3.5, 7, 14 and 28 pixels,
# which are to each other as the 4, 8, 16 and 32 that the head is told.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_vitl14.py 8 --amp  # 12.4 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_504x504.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
clip = dict(model='ViT-L-14-quickgelu', pretrained='dfn2b')
model = dict(
    data_preprocessor=dict(size=(504, 504)),
    backbone=dict(clip, image_size=504),
    neck=dict(text_encoder=clip, neck=dict(in_channels=[1024, 1024, 1024, 1024])),
    test_cfg=dict(crop_size=(504, 504), stride=(336, 336)))
