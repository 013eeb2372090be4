# Zero-shot SigLIP2-B/16 on ADE20K. Its last attention is its pool, which passes the values on. The
# tokenizer is of Hugging Face (extra transformers).
_base_ = './clip_pe_core_b16.py'
model = dict(
    backbone=dict(model='ViT-B-16-SigLIP2-512', pretrained='webli'),
    neck=dict(text_encoder=dict(model='ViT-B-16-SigLIP2-512', pretrained='webli')))
