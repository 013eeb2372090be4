# CoOp on ADE20K with contexts of their own for every class.
_base_ = './coop_r50.py'
model = dict(neck=dict(prompt=dict(class_specific=True)))
