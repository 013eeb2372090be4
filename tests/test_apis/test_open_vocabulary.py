"""Names that a model was not built for."""

from denseclip_mm.apis.open_vocabulary import answer_names

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models import CascadeEncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

NAMES = ['cat', 'dog', 'sky']
OTHER = ['bus', 'sea', 'oak tree', 'ship;boat', 'cat']


def build(clip: dict, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    neck = dict(
        type='PixelTextNeck', class_names=NAMES, score_map_index=3,
        prompt=dict(type='LearnedContext', num_context=3),
        text_encoder=dict(type='CLIPTextTower', model=clip),
        neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8, num_outs=4))
    return MODELS.build(dict(
        type='EncoderDecoder',
        backbone=dict(type='CLIPResNet', model=clip, image_size=64),
        neck={**neck, **changes},
        decode_head=dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                         feature_strides=[4, 8, 16, 32], channels=8, num_classes=3,
                         norm_cfg=dict(type='BN')),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=3, tau=0.5),
        test_cfg=ConfigDict(mode='whole'))).eval()


@torch.no_grad()
def test_the_score_map_answers(tiny_resnet: dict) -> None:
    model = build(tiny_resnet)
    image = torch.randn(1, 3, 64, 96)
    fixed = model.predict(image, [SegDataSample(metainfo=dict(
        img_shape=(64, 96), ori_shape=(64, 96)))])[0].seg_logits.data
    assert len(fixed) == 3
    answer_names(model, OTHER)
    result = model.predict(image, [SegDataSample(metainfo=dict(
        img_shape=(64, 96), ori_shape=(64, 96)))])[0]
    assert model.neck.class_names == OTHER
    scores = model.extract_feat(image)[-1] / 0.5
    expected = torch.nn.functional.interpolate(scores, (64, 96), mode='bilinear')[0]
    torch.testing.assert_close(result.seg_logits.data, expected)
    assert torch.equal(result.pred_sem_seg.data[0], expected.argmax(0))


def test_class_specific_contexts_refuse(tiny_resnet: dict) -> None:
    model = build(tiny_resnet, prompt=dict(type='LearnedContext', class_specific=True))
    head = model.decode_head
    with pytest.raises(ValueError, match='3 names cannot be changed'):
        answer_names(model, OTHER)
    assert model.decode_head is head


def test_a_cascade_refuses(tiny_resnet: dict) -> None:
    model = build(tiny_resnet, type='PixelTextNeck')
    model.__class__ = CascadeEncoderDecoder
    with pytest.raises(ValueError, match='a CascadeEncoderDecoder answers by its heads'):
        answer_names(model, OTHER)
    assert model.neck.class_names == NAMES


def test_models_without_a_score_map_refuse(tiny_resnet: dict) -> None:
    model = build(tiny_resnet, output_score_map=False)
    with pytest.raises(ValueError, match='names need a score map'):
        answer_names(model, OTHER)
    assert model.neck.class_names == NAMES
    with pytest.raises(ValueError, match='names need a score map'):
        answer_names(torch.nn.Identity(), OTHER)
