# Zero-shot ViT-L/14 of DFN-2B on ADE20K, with neighbour attention. Not run.
# python tools/test.py configs/zero_shot/clip_vitl14.py none
_base_ = ['../_base_/models/model_clip_score_map_r50.py', '../_base_/datasets/ade20k_504x504.py',
          '../_base_/schedules/schedule_coop.py', '../_base_/default_runtime.py']
clip = dict(model='ViT-L-14-quickgelu', pretrained='dfn2b')
model = dict(
    data_preprocessor=dict(size=(504, 504)),
    backbone=dict(
        clip, _delete_=True, type='CLIPVisionTransformer', image_size=504,
        dense_embedding='neighbour', frozen_stages=25),
    neck=dict(text_encoder=clip),
    test_cfg=dict(crop_size=(504, 504), stride=(336, 336)))
