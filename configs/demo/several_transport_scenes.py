# Four learned prompts of a class, weighed in every cell by optimal transport (PLOT).
_base_ = './several_best_scenes.py'
model = dict(neck=dict(synonyms='transport'))
