# The published schedule (DenseCLIP, section 4.1): 32 images an iteration, 8 GPUs with 4 each.
# Its "no decay on norms" is by parameter name; norm_decay_mult does it by layer type. As in the
# published code, the backbone's own entry goes first and its norms decay like the rest of it.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}, norm_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=1e-6, power=0.9, by_epoch=False, begin=1500, end=80000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    check_loss=dict(type='CheckLossHook'),
    summary=dict(type='RunSummaryHook'),
    prompt_words=dict(type='PromptWordsHook'),
    checkpoint=dict(
        type='ResumableCheckpointHook', by_epoch=False, interval=8000, max_keep_ckpts=2,
        save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PredictionVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=32)
