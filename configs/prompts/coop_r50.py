# CoOp on ADE20K: 16 unified contexts, the name at the end, both towers frozen. Not run.
# tools/dist_train.sh configs/prompts/coop_r50.py 8
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='LearnedContext', num_context=16, std=0.02, full_stop=True)))
