# CoOp: unified contexts learned on the labelled scenes, both towers frozen. From 16 scenes
# 66.4 ± 1.5 mIoU of base names, 57.9 ± 0.7 of new ones (make prompts).
# python tools/train.py configs/demo/coop_scenes.py  # minutes on a CPU
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(prompt=dict(_delete_=True, type='LearnedContext', init_words='a photo of a')))
