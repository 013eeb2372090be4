# DenseCLIP, SigLIP2-B/16, ADE20K. The tokenizer is of Hugging Face (extra transformers).
_base_ = './denseclip_fpn_pe_core_b16.py'
model = dict(
    backbone=dict(model='ViT-B-16-SigLIP2-512', pretrained='webli'),
    neck=dict(text_encoder=dict(model='ViT-B-16-SigLIP2-512', pretrained='webli')))
