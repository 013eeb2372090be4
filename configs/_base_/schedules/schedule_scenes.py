# A few minutes on two CPU cores.
_base_ = './schedule_80k.py'
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=20, end=250),
]
train_cfg = dict(max_iters=250, val_interval=250)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=50, max_keep_ckpts=1, save_best=None))
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)
