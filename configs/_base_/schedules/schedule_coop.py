# Prompt tuning as in CoOp (Zhou et al. 2022, section 4.1): SGD at 0.002 with a cosine schedule;
# the first iterations at 1e-5. 32 images an iteration, 8 GPUs with 4 each.
_base_ = './schedule_80k.py'
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='ConstantLR', factor=0.005, by_epoch=False, begin=0, end=600),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=600, end=20000),
]
train_cfg = dict(max_iters=20000, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=2000))
