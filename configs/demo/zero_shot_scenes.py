# Zero-shot: CLIP's template, no training at all (tools/test.py CONFIG none).
_base_ = '../_base_/prompts_scenes.py'
