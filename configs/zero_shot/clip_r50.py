# Zero-shot CLIP RN50 on ADE20K: one template, no training (tools/test.py CONFIG none).
_base_ = '../_base_/prompts_ade20k.py'
