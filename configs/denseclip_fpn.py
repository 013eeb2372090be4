# The main config: DenseCLIP, CLIP RN50, ADE20K. Its relatives are in configs/denseclip.
_base_ = './denseclip/denseclip_fpn_r50.py'
