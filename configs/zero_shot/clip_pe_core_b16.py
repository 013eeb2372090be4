# Zero-shot PE-Core-B/16 on ADE20K. Its last attention is its pool, which passes the values on.
# Not run.
# python tools/test.py configs/zero_shot/clip_pe_core_b16.py none
_base_ = '../_base_/prompts_ade20k.py'
clip = dict(model='PE-Core-B-16', pretrained='meta')
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        clip, _delete_=True, type='CLIPTIMMBackbone', dense_embedding='attended', frozen_stages=13),
    neck=dict(text_encoder=clip))
