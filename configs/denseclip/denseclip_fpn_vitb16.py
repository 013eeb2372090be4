# DenseCLIP, CLIP ViT-B/16, ADE20K: published 50.6 mIoU, 51.3 multi-scale; not run here.
# tools/dist_train.sh configs/denseclip/denseclip_fpn_vitb16.py 8 --amp  # 5.9 GB a GPU
_base_ = ['../_base_/models/model_denseclip_fpn_vitb16.py', '../_base_/datasets/ade20k_640x640.py',
          '../_base_/schedules/schedule_80k.py', '../_base_/default_runtime.py']
