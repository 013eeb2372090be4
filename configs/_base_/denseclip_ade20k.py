# DenseCLIP, CLIP RN50, on ADE20K with the published schedule.
_base_ = ['./models/model_denseclip_fpn_r50.py', './datasets/ade20k_512x512.py',
          './schedules/schedule_80k.py', './default_runtime.py']
