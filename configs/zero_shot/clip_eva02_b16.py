# Zero-shot EVA02-CLIP-B/16 on ADE20K. It pools at its class token, so the last block passes values
# on (MaskCLIP). Not run.
# python tools/test.py configs/zero_shot/clip_eva02_b16.py none
_base_ = '../_base_/prompts_ade20k.py'
clip = dict(model='EVA02-B-16', pretrained='merged2b_s8b_b131k')
model = dict(
    backbone=dict(
        clip, _delete_=True, type='CLIPTIMMBackbone', dense_embedding='value', frozen_stages=13),
    neck=dict(text_encoder=clip))
