"""The head for any names, against loops over classes and cells."""

from collections.abc import Callable

from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.models.aggregation_head import CostAggregationHead, convex_upsample

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

NAMES = ['cat', 'dog', 'oak tree', 'sky;clouds']
OTHER = ['bus', 'sea', 'ship;boat', 'snow']


def build_head(**changes: object) -> CostAggregationHead:
    torch.manual_seed(0)
    head = CostAggregationHead(**{**dict(
        num_classes=4, in_channels=[6, 6], in_index=[0, 1], channels=6, feature_strides=[4, 8],
        score_map_stride=16, width=5, tau=0.5, dropout_ratio=0), **changes})
    for parameter in head.parameters():  # exit and mix start from zero
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def inputs(classes: int = 4, images: int = 2, h: int = 3, w: int = 4) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return (torch.randn(images, 6, 4 * h, 4 * w), torch.randn(images, 6, 2 * h, 2 * w),
            torch.rand(images, classes, h, w) * 2 - 1)


def close(ours: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    assert (ours - expected).norm() <= rtol * expected.norm()


def one_class(head: CostAggregationHead, logit: Tensor, log_share: Tensor,
              guide: Tensor) -> Tensor:
    """Refined logits (h, w) of one class of one image, by the words of the docstring."""
    x = head.entry(torch.stack([logit, log_share])[None])
    for layer in head.layers:
        y = layer.conv(F.group_norm(x, 1, layer.norm.weight, layer.norm.bias))
        gate, bias = layer.guide(guide[None])[0].split(x.shape[1])
        x = x + layer.proj(F.gelu(y * (1 + gate) + bias))
    return logit + head.exit(x)[0, 0]


@torch.no_grad()
def test_the_head_class_by_class_and_cell_by_cell() -> None:
    head = build_head().eval()
    fine, coarse, score_map = inputs()
    logits = head((fine, coarse, score_map))
    assert logits.shape == (2, 4, 12, 16)
    trunk = head.scale_heads[0](fine) + head.scale_heads[1](coarse)
    scores = score_map / 0.5
    for image in range(2):
        guide = F.avg_pool2d(trunk[image], 4)
        refined = torch.stack([
            one_class(head, scores[image, k], scores[image].log_softmax(0)[k], guide)
            for k in range(4)])
        for row in range(12):
            for column in range(16):
                weights = head.mix.weight[:, :, 0, 0] @ trunk[image, :, row, column]
                weights = (weights + head.mix.bias).exp()
                weights = weights * head.bilinear_9ss[:, row % 4, column % 4]
                mixed = sum(
                    weight * refined[:, min(max(row // 4 + i // 3 - 1, 0), 2),
                                     min(max(column // 4 + i % 3 - 1, 0), 3)]
                    for i, weight in enumerate(weights / weights.sum()))
                close(logits[image, :, row, column], mixed, 1e-4)


@torch.no_grad()
def test_it_starts_as_the_score_map_bilinearly_upsampled() -> None:
    torch.manual_seed(0)
    head = CostAggregationHead(num_classes=4, in_channels=[6, 6], in_index=[0, 1], channels=6,
                               feature_strides=[4, 8], score_map_stride=16).eval()
    fmaps = inputs()
    expected = F.interpolate(fmaps[-1] / 0.07, scale_factor=4, mode='bilinear')
    close(head(fmaps), expected, 0.1)  # each cell has a little of all nine


@pytest.mark.parametrize('size', [(3, 4), (1, 1)])
def test_convex_upsampling_with_the_shares_of_bilinear_is_bilinear(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    nine = F.interpolate(torch.eye(9).view(9, 1, 3, 3), scale_factor=4, mode='bilinear')
    mix = nine[:, 0, 4:8, 4:8].tile(1, *size).expand(2, -1, -1, -1)
    close(convex_upsample(x, mix, 4), F.interpolate(x, scale_factor=4, mode='bilinear'))


def test_gradient_of_convex_upsampling_against_finite_differences() -> None:
    x = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)
    mix = torch.rand(1, 9, 4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *both: convex_upsample(*both, 2), (x, mix))


@torch.no_grad()
def test_names_in_another_order_and_of_any_number() -> None:
    """No weight belongs to a class, and chunks change nothing."""
    head = build_head().eval()
    *maps, score_map = inputs(150)
    logits = head((*maps, score_map))
    order = torch.randperm(150)
    close(head((*maps, score_map[:, order])), logits[:, order])
    with torch.enable_grad():  # all at once
        close(head((*maps, score_map)).detach(), logits)
    other = build_head(num_classes=7)
    assert {name: value.shape for name, value in other.state_dict().items()} == {
        name: value.shape for name, value in head.state_dict().items()}


def samples(labels: Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels]


@pytest.mark.parametrize('loss', [dict(type='CrossEntropyLoss'),
                                  dict(type='CrossEntropyLoss', avg_non_ignore=True)])
def test_classes_that_sit_out_are_in_no_loss(loss: dict) -> None:
    """The loss is that of the vocabulary of the step, on its pixels."""
    head = build_head(num_classes=9, class_dropout=0.7, loss_decode=loss).train()
    head.scale_heads.eval()
    fmaps = inputs(9)
    labels = torch.randint(0, 9, (2, 24, 32))
    labels[:, :3] = 255
    seen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        value = head.loss(fmaps, samples(labels), {})['loss_ce']
        torch.manual_seed(seed)
        share = 1 - 0.7 * float(torch.rand(()))
        kept = sorted(torch.randperm(9)[:max(2, round(share * 9))].tolist())
        seen.add(len(kept))
        with torch.no_grad():
            logits = F.interpolate(head((*fmaps[:-1], fmaps[-1][:, kept])), (24, 32),
                                   mode='bilinear')
        place = torch.full((256, ), 255)
        place[kept] = torch.arange(len(kept))
        expected = F.cross_entropy(logits, place[labels], ignore_index=255, reduction='sum')
        judged = (place[labels] != 255).sum() if 'avg_non_ignore' in loss else labels.numel()
        torch.testing.assert_close(value, expected / judged, rtol=1e-4, atol=1e-5)
    assert min(seen) < 6 < max(seen)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match='score_map_stride=10 is no multiple of feature_strides'):
        build_head(score_map_stride=10)
    with pytest.raises(ValueError, match='class_dropout=1 is no share'):
        build_head(class_dropout=1)
    fine, coarse, score_map = inputs()
    with pytest.raises(ValueError, match='score map has 3 x 4 cells and the finest map 24 x 32'):
        build_head()((F.interpolate(fine, scale_factor=2), coarse, score_map))
    with pytest.raises(TypeError, match='clas_dropout'):
        build_head(clas_dropout=0.5)


@pytest.fixture
def model(tiny_resnet: dict, model_config: Callable) -> BaseSegmentor:
    """A whole model with this head, its weights by chance."""
    torch.manual_seed(0)
    cfg = model_config(tiny_resnet, NAMES)
    cfg['neck'].update(score_map_index=None,
                       context_decoder=dict(type='ContextDecoder', width=16, num_layers=1))
    cfg['decode_head'].update(type='CostAggregationHead', score_map_stride=32)
    built = MODELS.build(cfg)
    for parameter in built.decode_head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built.eval()


def encode_decode(model: BaseSegmentor, images: Tensor) -> Tensor:
    size = tuple(images.shape[2:])
    with torch.no_grad():
        return model.encode_decode(images, [dict(img_shape=size, ori_shape=size,
                                                 pad_shape=size)] * len(images))


@torch.no_grad()
def test_the_guide_does_not_change_with_the_names(model: BaseSegmentor) -> None:
    """As many new names as the model was built for: a map with score maps in it would change."""
    images = torch.randn(1, 3, 64, 96)
    *before, own = model.extract_feat(images)
    view = answer_names(model, OTHER)
    *after, score_map = view.extract_feat(images)
    assert len(before) == 4 and not torch.allclose(score_map, own)
    for ours, theirs in zip(after, before, strict=True):
        assert torch.equal(ours, theirs)
    guides = []
    for each in (model, view):
        hook = each.decode_head.mix.register_forward_hook(
            lambda _, inputs, output: guides.append(inputs[0]))
        encode_decode(each, images)
        hook.remove()
    assert torch.equal(*guides)


def test_a_view_answers_new_names_by_the_same_head(model: BaseSegmentor) -> None:
    images = torch.randn(1, 3, 64, 96)
    both = [*OTHER, NAMES[0]]
    view = answer_names(model, both)
    assert view.decode_head.num_classes == view.num_classes == view.out_channels == 5
    assert model.decode_head.num_classes == model.num_classes == 4
    own = dict(model.named_parameters())
    assert all(parameter is own[name] for name, parameter in view.named_parameters())
    logits = encode_decode(view, images)
    with torch.no_grad():
        *maps, score_map = view.extract_feat(images)
        expected = F.interpolate(model.decode_head((*maps, score_map)), (64, 96), mode='bilinear')
    assert torch.equal(logits, expected) and score_map.shape[1] == 5
    close(encode_decode(answer_names(model, NAMES), images), encode_decode(model, images))
    by_score_map = encode_decode(answer_names(model, both, by_score_map=True), images)
    close(by_score_map, F.interpolate(score_map / 0.07, (64, 96), mode='bilinear'))
    alone = answer_names(model, [both[0]], alone=True)  # no probability without another name
    with torch.no_grad():
        score_map = alone.extract_feat(images)[-1]
    assert score_map.shape[1] == 1
    close(encode_decode(alone, images),
          F.interpolate(score_map / 0.07, (64, 96), mode='bilinear'))


@torch.no_grad()
def test_windows_of_new_names_are_averaged(model: BaseSegmentor) -> None:
    """Slide inference of a view, whose classes are more than the model's."""
    view = answer_names(model, [*OTHER, 'road'])
    images = torch.randn(1, 3, 64, 96)
    meta = [dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96))]
    view.test_cfg = ConfigDict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    left, right = (encode_decode(view, images[..., start:start + 64]) for start in (0, 32))
    expected = torch.zeros(1, 5, 64, 96)
    expected[..., :64] += left
    expected[..., 32:] += right
    expected[..., 32:64] /= 2
    close(view.inference(images, meta), expected)
