# Zero-shot with an ensemble of templates: 66.4 mIoU of base names, 65.5 of new ones, 52.5 of all at
# once (make prompts).
# python tools/test.py configs/demo/zero_shot_ensemble_scenes.py none
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(templates=[
            '{}', 'a {}.', 'a photo of a {}.', 'a picture of a {}.', 'an image of a {}.',
            'there is a {}.', 'a small photo of the {}.'
        ])))
