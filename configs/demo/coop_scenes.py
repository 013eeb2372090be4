# CoOp: unified contexts learned on the labelled scenes, both towers frozen.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(prompt=dict(_delete_=True, type='LearnedContext', init_words='a photo of a')))
