# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = './model_clip_mask_rcnn_scenes.py'
model = dict(
    type='ScoreMapDetector',
    detector='MaskRCNN',
    score_map_loss=dict(type='BoxScoreMapLoss', tau=0.07),
    backbone=dict(with_embeddings=True),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='DemoCLIP', pretrained='demo'),
        prompt=dict(type='LearnedContext', num_context=8),
        context_decoder=dict(
            type='ContextDecoder', width=64, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3,
        tau=0.07,
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4)))
