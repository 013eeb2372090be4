# CoCoOp on ADE20K: 4 contexts that start from words, shifted by what a meta-net makes of the image.
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='ConditionalContext', init_words='a photo of a', full_stop=True)))
