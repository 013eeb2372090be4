# Zero-shot SigLIP2-B/16 on ADE20K. Its last attention is its pool, which passes the values on. The
# tokenizer is of Hugging Face (extra transformers). Not run.
# python tools/test.py configs/zero_shot/clip_siglip2_b16.py none
_base_ = '../_base_/prompts_ade20k.py'
clip = dict(model='ViT-B-16-SigLIP2-512', pretrained='webli')
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        clip, _delete_=True, type='CLIPTIMMBackbone', dense_embedding='attended', frozen_stages=13),
    neck=dict(text_encoder=clip))
