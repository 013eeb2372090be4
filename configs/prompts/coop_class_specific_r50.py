# CoOp on ADE20K with contexts of their own for every class, both towers frozen. Not run.
# tools/dist_train.sh configs/prompts/coop_class_specific_r50.py 8
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='LearnedContext', num_context=16, std=0.02, full_stop=True,
            class_specific=True)))
