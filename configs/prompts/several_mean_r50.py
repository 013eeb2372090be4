# Four learned prompts of a class on ADE20K, which scores as their mean (as ProDA classifies).
_base_ = './coop_r50.py'
model = dict(neck=dict(prompt=dict(num_prompts=4), synonyms='mean'))
