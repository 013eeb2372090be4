# The main config: DenseCLIP, CLIP RN50, ADE20K; its relatives are in configs/denseclip. Published
# 43.5 mIoU, 44.7 multi-scale; not run here.
# tools/dist_train.sh configs/denseclip_fpn.py 8 --amp  # 2.8 GB a GPU
_base_ = './_base_/denseclip_ade20k.py'
