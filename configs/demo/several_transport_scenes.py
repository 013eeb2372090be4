# Four learned prompts of a class, weighed in every cell by optimal transport (PLOT).
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(_delete_=True, type='LearnedContext', num_context=4, num_prompts=4, std=0.02),
        synonyms='transport'))
