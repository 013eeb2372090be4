# DenseCLIP, pre-model prompting: the contexts are read from the image. From 16 scenes
# 55.1 ± 4.0 mIoU of base names, its score map 69.8 ± 0.6 (make prompts).
# python tools/train.py configs/demo/denseclip_pre_fpn_scenes.py  # minutes on a CPU
_base_ = ['../_base_/models/model_denseclip_fpn_scenes.py', '../_base_/datasets/scenes.py',
          '../_base_/schedules/schedule_scenes.py', '../_base_/default_runtime.py']
model = dict(
    neck=dict(
        class_names=_base_.base_classes,
        prompt=dict(
            _delete_=True, type='VisualContext', num_context=8, width=64, num_heads=4,
            num_layers=3, dropout=0.1),
        context_decoder=None))
