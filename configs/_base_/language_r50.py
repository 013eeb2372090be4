# What turns a config of mmseg into DenseCLIP with CLIP's RN50; docs/own_config.md says how. Stock
# configs have entries of these names, so they lie in one of their own.
language = dict(
    model=dict(
        pretrained=None,
        data_preprocessor=dict(  # CLIP's, times 255
            mean=[122.7709383, 116.7460125, 104.09373615],
            std=[68.5005327, 66.6321579, 70.32316305]),
        backbone=dict(
            _delete_=True,
            type='CLIPResNet',
            model='RN50-quickgelu',
            pretrained='openai',
            image_size=512)),
    neck=dict(
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='RN50-quickgelu', pretrained='openai'),
        prompt=dict(type='LearnedContext', num_context=8),
        context_decoder=dict(
            type='ContextDecoder', width=256, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3),
    score_map_head=dict(
        type='ScoreMapHead', tau=0.07, loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4)),
    custom_hooks=[
        dict(type='CheckClassesHook'),
        dict(type='CheckLossHook'),
        dict(type='RunSummaryHook')],
    optim_wrapper=dict(
        _delete_=True,
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
        paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}, norm_decay_mult=0.0)))
