# The demo CLIP and a semantic FPN without language, on 200 labelled scenes: what DenseCLIP is
# compared with. 72.1 ± 0.7 mIoU (docs/results.md, Margins).
# python tools/train.py configs/demo/clip_fpn_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_clip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
