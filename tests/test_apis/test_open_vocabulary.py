"""Names that a model was not built for."""

from denseclip_mm.apis.open_vocabulary import answer_names, mix_heads

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models import CascadeEncoderDecoder
from mmseg.models.decode_heads import FPNHead
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


def predict(model: torch.nn.Module, image: torch.Tensor) -> SegDataSample:
    size = tuple(image.shape[2:])
    return model.predict(image, [SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))])[0]


@pytest.mark.parametrize('output_score_map', [True, False])
@pytest.mark.parametrize('names', [OTHER, ['bus', 'sea', 'oak tree'], ['sky', 'cat', 'dog']])
@torch.no_grad()
def test_a_view_answers_and_the_model_stays_whole(names: list[str], output_score_map: bool,
                                                  tiny_resnet: dict) -> None:
    model, image = build(tiny_resnet, output_score_map=output_score_map), torch.randn(1, 3, 64, 96)
    state, modules = model.state_dict(), dict(model.named_modules())
    before = predict(model, image)
    view = answer_names(model, names)
    result = predict(view, image)
    neck = model.neck
    scores = neck.score_map(view.neck.vocabulary, *visual(model, image)) / 0.5
    expected = torch.nn.functional.interpolate(scores, (64, 96), mode='bilinear')[0]
    torch.testing.assert_close(result.seg_logits.data, expected)
    assert torch.equal(result.pred_sem_seg.data[0], expected.argmax(0))
    assert view.neck.class_names == names and view.dataset_meta['classes'] == tuple(names)
    assert view.num_classes == view.out_channels == len(names)

    assert model.neck.class_names == NAMES and model.num_classes == model.out_channels == 3
    assert dict(model.named_modules()) == modules
    assert model.state_dict().keys() == state.keys()
    after = predict(model, image)
    assert torch.equal(after.seg_logits.data, before.seg_logits.data)
    assert isinstance(model.decode_head, FPNHead) and len(after.seg_logits.data) == 3
    own = dict(model.named_parameters())
    assert all(parameter is own[name] for name, parameter in view.named_parameters())
    assert not any(name.startswith(('neck.neck', 'auxiliary')) for name in view.state_dict())


def visual(model: torch.nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Visual tokens and the dense embedding."""
    glob, dense = model.backbone(image)[-1]
    return torch.cat([glob[:, :, None], dense.flatten(2)], dim=2).mT, dense


@torch.no_grad()
def test_views_do_not_disturb_each_other(tiny_resnet: dict) -> None:
    """Each keeps its own text; weights that change are those of all."""
    model, image = build(tiny_resnet), torch.randn(1, 3, 64, 64)
    views = [answer_names(model, names) for names in (OTHER, NAMES)]
    views.append(answer_names(views[0], NAMES))  # of a view
    first = [predict(view, image).seg_logits.data for view in views]
    for view, logits in zip(views, first, strict=True):
        assert torch.equal(predict(view, image).seg_logits.data, logits)
    torch.testing.assert_close(first[1], first[2])
    model.neck.prompt.contexts.neg_()
    torch.testing.assert_close(predict(views[0], image).seg_logits.data,
                               predict(answer_names(model, OTHER), image).seg_logits.data)
    assert not torch.allclose(predict(views[0], image).seg_logits.data, first[0])


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


def test_models_without_a_score_map_refuse() -> None:
    with pytest.raises(ValueError, match='names need a score map'):
        answer_names(torch.nn.Identity(), OTHER)


@torch.no_grad()
def probabilities(model: torch.nn.Module, image: torch.Tensor,
                  names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the decoder with its own classes, and of the score map, at the decoder's size."""
    decoded = model.decode_head(model.extract_feat(image)).softmax(1)
    scores = model.neck.score_map(answer_names(model, names).neck.vocabulary,
                                  *visual(model, image))
    logits = torch.nn.functional.interpolate(scores / 0.5, decoded.shape[2:], mode='bilinear')
    return decoded[0], logits.softmax(1)[0]


@pytest.mark.parametrize('output_score_map', [True, False])
@pytest.mark.parametrize('names', [None, ['bus', 'dog', 'sea'], ['sky', 'bus', 'cat', 'snow']])
@torch.no_grad()
def test_an_ensemble_name_by_name(names: list[str] | None, output_score_map: bool,
                                  tiny_resnet: dict) -> None:
    model, image = build(tiny_resnet, output_score_map=output_score_map), torch.randn(1, 3, 64, 96)
    if not output_score_map:
        model.auxiliary_head.tau = 0.5
    view = mix_heads(model, (0.35, 0.8), class_names=names, unlabelled=['sky'])
    decoded, mapped = probabilities(model, image, names or NAMES)
    expected = []
    for place, name in enumerate(names or NAMES):
        weight = 0.35 if name in ('cat', 'dog') else 0.8
        own = decoded[NAMES.index(name)] if name in NAMES else 0  # sky: decoded, but no label
        expected.append((1 - weight) * own + weight * mapped[place])
    log = torch.stack(expected).log()
    torch.testing.assert_close(view.decode_head(view.extract_feat(image))[0], log)
    result = predict(view, image)
    assert torch.equal(result.pred_sem_seg.data[0], torch.nn.functional.interpolate(
        log[None], (64, 96), mode='bilinear')[0].argmax(0))
    assert model.neck.class_names == NAMES and len(predict(model, image).seg_logits.data) == 3


def test_what_an_ensemble_refuses(tiny_resnet: dict) -> None:
    model = build(tiny_resnet)
    with pytest.raises(ValueError, match=r'weights \(0.5, 1.5\) of the score map'):
        mix_heads(model, (0.5, 1.5))
    with pytest.raises(ValueError, match="'sea' is said to have no label"):
        mix_heads(model, (0.5, 1), unlabelled=['sea'])
    with pytest.raises(ValueError, match="'bus' alone leaves nothing to choose between"):
        mix_heads(model, (0.5, 1), class_names=['bus'])
    with pytest.raises(ValueError, match='needs a decode head with fixed classes'):
        mix_heads(answer_names(model, OTHER), (0.5, 1))
