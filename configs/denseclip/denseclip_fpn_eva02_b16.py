# DenseCLIP, EVA02-CLIP-B/16, ADE20K.
_base_ = './denseclip_fpn_vitb16.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='CLIPTIMMBackbone',
        model='EVA02-B-16',
        pretrained='merged2b_s8b_b131k'),
    neck=dict(text_encoder=dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k')))
