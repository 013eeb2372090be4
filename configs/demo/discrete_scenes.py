# Discrete prompts: the contexts are words, learned on the labelled scenes, both towers frozen.
_base_ = './coop_scenes.py'
model = dict(neck=dict(prompt=dict(type='DiscreteContext')))
