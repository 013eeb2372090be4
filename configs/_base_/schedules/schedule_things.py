# A few minutes on two CPU cores.
_base_ = './schedule_scenes.py'
optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=50, end=500),
]
train_cfg = dict(max_iters=500, val_interval=500)
default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
