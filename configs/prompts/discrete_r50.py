# Discrete prompts on ADE20K: 8 words that are learned and can be read, both towers frozen. AdamW as
# in "Hard Prompts Made Easy" (Wen et al. 2023, section 4): 0.1, weight decay 0.1. Not run.
# tools/dist_train.sh configs/prompts/discrete_r50.py 8
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(_delete_=True, type='DiscreteContext', num_context=8, full_stop=True)))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.1, weight_decay=0.1))
