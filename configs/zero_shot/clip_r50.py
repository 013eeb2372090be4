# Zero-shot CLIP RN50 on ADE20K: one template, no training. Not run.
# python tools/test.py configs/zero_shot/clip_r50.py none
_base_ = '../_base_/prompts_ade20k.py'
