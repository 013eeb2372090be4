# DenseCLIP, CLIP RN50, ADE20K: published 43.5 mIoU (single scale), 44.7 (multi-scale).
_base_ = '../_base_/denseclip_ade20k.py'
