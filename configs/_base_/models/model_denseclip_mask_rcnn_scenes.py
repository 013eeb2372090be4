# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = ['./model_clip_mask_rcnn_scenes.py', '../language_scenes.py']
model = dict(
    type='ScoreMapDetector',
    detector='MaskRCNN',
    score_map_loss=dict(type='BoxScoreMapLoss', tau=0.07),
    backbone=dict(with_embeddings=True),
    neck=dict(_delete_=True, **_base_.language.neck, tau=0.07, neck=_base_.model.neck))
