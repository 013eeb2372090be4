# Four learned prompts of a class on ADE20K, which scores as their mean (as ProDA classifies). Both
# towers are frozen. Not run.
# tools/dist_train.sh configs/prompts/several_mean_r50.py 8
_base_ = '../_base_/prompts_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='LearnedContext', num_context=16, std=0.02, full_stop=True,
            num_prompts=4),
        synonyms='mean'))
