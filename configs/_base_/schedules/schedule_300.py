# Minutes on a CPU, with 4 small crops an iteration.
_base_ = './schedule_4k.py'
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=30, end=300),
]
train_cfg = dict(max_iters=300, val_interval=150)
default_hooks = dict(checkpoint=dict(interval=150), logger=dict(interval=25))
auto_scale_lr = dict(base_batch_size=4)
