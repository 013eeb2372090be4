# CoCoOp on ADE20K: 4 contexts that start from words, shifted by what a meta-net makes of the image.
_base_ = '../zero_shot/clip_r50.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True,
            type='ConditionalContext',
            init_words='a photo of a',
            full_stop=True)))
