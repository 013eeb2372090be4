# Zero-shot PE-Core-B/16 on ADE20K. Its last attention is its pool, which passes the values on.
_base_ = './clip_eva02_b16.py'
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(model='PE-Core-B-16', pretrained='meta', dense_embedding='attended'),
    neck=dict(text_encoder=dict(model='PE-Core-B-16', pretrained='meta')))
