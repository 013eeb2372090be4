# Four learned prompts of a class, which scores as their mean (as ProDA classifies). From 16 scenes
# 66.9 ± 1.4 mIoU of base names, 66.5 ± 3.1 of new ones (make prompts).
# python tools/train.py configs/demo/several_mean_scenes.py  # minutes on a CPU
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(_delete_=True, type='LearnedContext', num_context=4, num_prompts=4, std=0.02),
        synonyms='mean'))
