# DenseCLIP with pre-model prompting, CLIP RN50, ADE20K: the contexts are read from the image.
# Not run.
# tools/dist_train.sh configs/prompts/denseclip_pre_fpn_r50.py 8
_base_ = '../_base_/denseclip_ade20k.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True, type='VisualContext', num_context=8, width=256, num_heads=4,
            num_layers=3, dropout=0.1),
        context_decoder=None))
