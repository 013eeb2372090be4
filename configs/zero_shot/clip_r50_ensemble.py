# Zero-shot CLIP RN50 on ADE20K with the 80 templates of OpenAI's ImageNet ensemble. Not run.
# python tools/test.py configs/zero_shot/clip_r50_ensemble.py none
_base_ = '../_base_/prompts_ade20k.py'
model = dict(neck=dict(prompt=dict(templates='openai_imagenet')))
