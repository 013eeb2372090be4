# CoCoOp: contexts shifted by what a meta-net makes of the image.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(prompt=dict(_delete_=True, type='ConditionalContext', init_words='a photo of a')))
