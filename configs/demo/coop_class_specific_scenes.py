# CoOp with contexts of their own for every class.
_base_ = './coop_scenes.py'
model = dict(neck=dict(prompt=dict(class_specific=True)))
