# Discrete prompts: the contexts are words, learned on the labelled scenes, both towers frozen.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(prompt=dict(_delete_=True, type='DiscreteContext', init_words='a photo of a')))
