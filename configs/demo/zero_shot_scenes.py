# Zero-shot: the demo CLIP and its template, no training. 66.3 mIoU of base names, 65.7 of new ones,
# 52.6 of all at once (make prompts).
# python tools/test.py configs/demo/zero_shot_scenes.py none
_base_ = '../_base_/prompts_scenes.py'
