# DenseCLIP on an ImageNet EfficientNet-Lite0: a new attention pool learns to speak the language of
# text that CLIP ViT-L/14 embedded elsewhere.
_base_ = ['./model_lite0_fpn.py', '../language_r50.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='AlignedBackbone',
        embed_dim=768,
        head_channels=64,
        image_size=(224, 224),
        backbone=_base_.lite0),
    neck=dict(
        _base_.language.neck,
        _delete_=True,
        text_encoder=None,
        prompt=dict(
            type='TextEmbeddings', embed_dim=768, path='data/camvid_lite0/text_embeddings.npy'),
        context_decoder=dict(_base_.language.neck.context_decoder, width=128),
        neck=_base_.model.neck),
    auxiliary_head=dict(**_base_.language.score_map_head, in_index=4, num_classes=11))
