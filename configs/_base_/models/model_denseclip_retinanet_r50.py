# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = ['./model_clip_retinanet_r50.py', '../language_r50.py']
model = dict(
    type='ScoreMapDetector',
    detector='RetinaNet',
    score_map_loss=dict(type='BoxScoreMapLoss', tau=0.07),
    # Images of many sizes, 1344 at most: the position table is cropped to them.
    backbone=dict(image_size=1344, positions='cropped', with_embeddings=True),
    neck=dict(
        _delete_=True, **_base_.language.neck, class_names='coco', tau=0.07,
        neck=_base_.model.neck))
