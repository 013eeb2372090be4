# What turns a config of mmseg into DenseCLIP with CLIP's ViT-B/16: four maps of 768 channels.
_base_ = './language_r50.py'
language = dict(
    model=dict(
        backbone=dict(
            type='CLIPVisionTransformer', model='ViT-B-16-quickgelu', drop_path_rate=0.1)),
    neck=dict(text_encoder=dict(model='ViT-B-16-quickgelu'), score_map_index=2))
