# The demo CLIP and a small Mask R-CNN without language, on 200 scenes: what DenseCLIP is compared
# with. 82.2 ± 0.6 box AP, 82.5 ± 0.6 mask AP (tools/demo/compare_detection.py, three seeds).
# python tools/train.py configs/detection/clip_mask_rcnn_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_clip_mask_rcnn_scenes.py', '../_base_/datasets/things.py',
          '../_base_/schedules/schedule_things.py', '../_base_/detection_runtime.py']
log_processor = dict(by_epoch=False)
