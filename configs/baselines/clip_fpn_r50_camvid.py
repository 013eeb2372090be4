# CLIP RN50 + FPN without language, CamVid: not run.
# tools/dist_train.sh configs/baselines/clip_fpn_r50_camvid.py 8 --amp  # 6.4 GB a GPU
_base_ = ['../_base_/models/model_clip_fpn_r50.py', '../_base_/datasets/camvid_512x512.py',
          '../_base_/schedules/schedule_4k.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(num_classes=11))
