# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = './model_clip_mask_rcnn_r50.py'
model = dict(
    type='ScoreMapDetector',
    detector='MaskRCNN',
    score_map_loss=dict(type='BoxScoreMapLoss', tau=0.07),
    # Images of many sizes, 1344 at most: the position table is cropped to them.
    backbone=dict(image_size=1344, positions='cropped', with_embeddings=True),
    neck=dict(
        _delete_=True,
        type='PixelTextNeck',
        text_encoder=dict(type='CLIPTextTower', model='RN50-quickgelu', pretrained='openai'),
        prompt=dict(type='LearnedContext', num_context=8),
        class_names='coco',
        context_decoder=dict(
            type='ContextDecoder', width=256, num_heads=4, num_layers=3, dropout=0.1),
        score_map_index=3,
        tau=0.07,
        neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5)))
