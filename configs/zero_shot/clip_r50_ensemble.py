# Zero-shot CLIP RN50 on ADE20K with the 80 templates of OpenAI's ImageNet ensemble.
_base_ = '../_base_/prompts_ade20k.py'
model = dict(neck=dict(prompt=dict(templates='openai_imagenet')))
