# CoOp with contexts of their own for every class, both towers frozen. From 16 scenes
# 56.0 ± 1.7 mIoU of base names (make prompts).
# python tools/train.py configs/demo/coop_class_specific_scenes.py  # minutes on a CPU
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='LearnedContext', init_words='a photo of a', class_specific=True)))
