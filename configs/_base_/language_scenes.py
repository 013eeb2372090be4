# What turns a baseline on scenes into DenseCLIP with the package's DemoCLIP: cells of 8 pixels.
_base_ = './language_r50.py'
language = dict(
    model=dict(
        backbone=dict(
            model='DemoCLIP',
            pretrained='demo',
            image_size=128,
            strides=(1, 2, 1, 1),
            dense_embedding='value')),
    neck=dict(
        text_encoder=dict(model='DemoCLIP', pretrained='demo'), context_decoder=dict(width=64)))
