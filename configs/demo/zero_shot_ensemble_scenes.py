# Zero-shot with an ensemble of templates.
_base_ = '../_base_/prompts_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(templates=[
            '{}', 'a {}.', 'a photo of a {}.', 'a picture of a {}.', 'an image of a {}.',
            'there is a {}.', 'a small photo of the {}.'
        ])))
