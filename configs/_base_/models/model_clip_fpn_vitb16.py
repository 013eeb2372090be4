# CLIP's ViT-B/16 and a semantic FPN, without language.
_base_ = './model_clip_fpn_r50.py'
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(
        _delete_=True,
        type='CLIPVisionTransformer',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        image_size=640,
        drop_path_rate=0.1,
        with_embeddings=False),
    neck=dict(in_channels=[768, 768, 768, 768]),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)))
