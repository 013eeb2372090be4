# CoCoOp: contexts shifted by what a meta-net makes of the image. From 16 scenes 65.8 ± 1.4 mIoU of
# base names, 54.9 ± 2.0 of new ones (make prompts).
# python tools/train.py configs/demo/cocoop_scenes.py  # minutes on a CPU
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(prompt=dict(_delete_=True, type='ConditionalContext', init_words='a photo of a')))
