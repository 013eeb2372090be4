# CoCoOp: contexts shifted by what a meta-net makes of the image.
_base_ = './coop_scenes.py'
model = dict(neck=dict(prompt=dict(type='ConditionalContext')))
