# Four learned prompts of a class on ADE20K, weighed in every cell by optimal transport (PLOT).
_base_ = './coop_r50.py'
model = dict(neck=dict(prompt=dict(num_prompts=4), synonyms='transport'))
