# CoCoOp on ADE20K: 4 contexts that start from words, shifted by what a meta-net makes of the image.
# Both towers are frozen. Not run.
# tools/dist_train.sh configs/prompts/cocoop_r50.py 8
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='ConditionalContext', init_words='a photo of a', full_stop=True)))
