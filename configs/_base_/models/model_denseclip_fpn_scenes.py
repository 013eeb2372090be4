# DenseCLIP: the baseline, its neck wrapped by the language branch, and the loss on the score map.
_base_ = ['./model_clip_fpn_scenes.py', '../language_scenes.py']
model = dict(
    backbone=dict(with_embeddings=True),
    neck=dict(_delete_=True, **_base_.language.neck, neck=_base_.model.neck),
    auxiliary_head=dict(
        **_base_.language.score_map_head, in_index=4, num_classes=30, sampler=_base_.sampler))
