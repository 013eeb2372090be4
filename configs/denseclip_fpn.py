# The main config: DenseCLIP, CLIP RN50, ADE20K. Its relatives are in configs/denseclip.
_base_ = './_base_/denseclip_ade20k.py'
