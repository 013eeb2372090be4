# DenseCLIP on ViT-B/16: the score map goes to the map of stride 16.
_base_ = ['./model_clip_fpn_vitb16.py', '../language_vitb16.py']
model = dict(
    backbone=dict(with_embeddings=True),
    neck=dict(_delete_=True, **_base_.language.neck, class_names='ade20k', neck=_base_.model.neck),
    auxiliary_head=dict(**_base_.language.score_map_head, in_index=4, num_classes=150))
