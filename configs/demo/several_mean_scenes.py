# Four learned prompts of a class, which scores as their mean (as ProDA classifies).
_base_ = './several_best_scenes.py'
model = dict(neck=dict(synonyms='mean'))
