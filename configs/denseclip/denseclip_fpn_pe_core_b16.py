# DenseCLIP, PE-Core-B/16, ADE20K.
_base_ = './denseclip_fpn_eva02_b16.py'
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(model='PE-Core-B-16', pretrained='meta'),
    neck=dict(text_encoder=dict(model='PE-Core-B-16', pretrained='meta')))
