# Four learned prompts of a class, which scores as the best of them.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(_delete_=True, type='LearnedContext', num_context=4, num_prompts=4, std=0.02)))
