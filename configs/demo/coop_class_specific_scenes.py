# CoOp with contexts of their own for every class.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='LearnedContext', init_words='a photo of a', class_specific=True)))
