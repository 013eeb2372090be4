"""Backbones: maps, embedding pair and options, against open_clip's own towers and torch's parts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import open_clip
import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from denseclip_mm.backbones import (
    AlignedBackbone,
    CLIPConvNeXt,
    CLIPResNet,
    CLIPVisionTransformer,
)

EMBED_DIM = 24
CONVNEXT_VISION = dict(timm_model_name='test_convnext', timm_pool='', timm_proj='linear',
                       image_size=64)
STOCK_RESNET = dict(type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3))
TIMM_RESNET = dict(type='TIMMBackbone', model_name='resnet18', pretrained=False,
                   features_only=True, out_indices=(1, 2, 3, 4))


@pytest.fixture
def tiny_convnext(tiny_resnet: dict) -> dict:
    """open_clip config of timm's smallest ConvNeXt (24 to 64 channels) and a 2-layer text tower."""
    return dict(tiny_resnet, vision_cfg=dict(CONVNEXT_VISION))


def repeated(halve: Callable[[int], int], start: int) -> list[int]:
    """The size after each stage of a stack in which every stage halves its input."""
    sizes = [start]
    for _ in range(3):
        sizes.append(halve(sizes[-1]))
    return sizes


def up(size: int) -> int:
    """Half, rounded up: what a convolution of stride 2 with padding leaves."""
    return -(-size // 2)


def down(size: int) -> int:
    """Half, rounded down: what pooling by 2 leaves."""
    return size // 2


@dataclass(frozen=True)
class Kind:
    """A backbone under test.

    Attributes:
        config: the fixture that holds its open_clip config; None for stock backbones.
        type: the class.
        arguments: beside ``model``.
        channels: of its maps.
        sizes: side of the input to sides of the maps.
        dense: which map has the size of the dense embedding.
    """

    config: str | None
    type: type[nn.Module]
    arguments: dict
    channels: tuple[int, ...]
    sizes: Callable[[int], list[int]]
    dense: int = 3

    def build(self, request: pytest.FixtureRequest, **changes: object) -> nn.Module:
        arguments = {**self.arguments, **changes}
        if self.config is not None:
            arguments = {'model': request.getfixturevalue(self.config), **arguments}
        torch.manual_seed(0)
        # by its registered name, as a config builds it
        return randomise(MODELS.build(dict(arguments, type=self.type.__name__)))


CLIP_KINDS = {
    'resnet': Kind('tiny_resnet', CLIPResNet, dict(), (32, 64, 128, 256),
                   lambda side: repeated(down, up(side) // 2)),
    'vit': Kind('tiny_vit', CLIPVisionTransformer, dict(out_indices=(0, 1, 2, 3)), (64, ) * 4,
                lambda side: [side // 16 * 4, side // 16 * 2, side // 16, side // 32], dense=2),
    'convnext': Kind('tiny_convnext', CLIPConvNeXt, dict(), (24, 32, 48, 64),
                     lambda side: repeated(down, side // 4)),
}
STOCK_KINDS = {
    f'aligned-{name}': Kind(
        None, AlignedBackbone, dict(backbone=backbone, embed_dim=EMBED_DIM, image_size=64),
        (64, 128, 256, 512), lambda side: repeated(up, up(up(side))))
    for name, backbone in (('mmseg', STOCK_RESNET), ('timm', TIMM_RESNET))
}
KINDS = CLIP_KINDS | STOCK_KINDS
WITH_TABLE = {name: kind for name, kind in KINDS.items()
              if name not in ('convnext', 'aligned-timm')}


def each(kinds: dict[str, Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize('kind', kinds.values(), ids=kinds.keys())


def randomise(module: nn.Module) -> nn.Module:
    """Make every tensor count: zero-initialised norms and layer scales would hide what follows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point() and tensor.ndim < 2:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise - 0.5 if name.endswith(('bias', 'mean')) else noise + 0.5)
    return module


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height + width))


def flat(outputs: tuple) -> list[Tensor]:
    """Maps and, if it is there, the embedding pair."""
    return [*outputs[:-1], *outputs[-1]] if isinstance(outputs[-1], tuple) else list(outputs)


def resized(table: Tensor, height: int, width: int) -> Tensor:
    """OpenCV's bilinear resize of a square position table: independent of torch's."""
    side = int((len(table) - 1)**0.5)
    cells = table[1:].detach().numpy().reshape(side, side, -1)
    cells = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.cat([table[:1].detach(), torch.from_numpy(cells).flatten(0, 1)])


def save_clip(config: dict, path: Path) -> open_clip.CLIP:
    """A whole open_clip model, random in every tensor, and its state dict at the path."""
    torch.manual_seed(3)
    clip = randomise(open_clip.CLIP(**config)).eval()
    torch.save(clip.state_dict(), path)
    return clip


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# shapes ------------------------------------------------------------------------------------------


@each(KINDS)
@pytest.mark.parametrize(('height', 'width'), [(64, 64), (96, 64), (75, 101)])
def test_maps_and_embedding_pair(kind: Kind, height: int, width: int,
                                 request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request).eval()
    with torch.no_grad():
        *maps, (image, dense) = backbone(images(height, width))
    sizes = list(zip(kind.sizes(height), kind.sizes(width), strict=True))
    assert [tuple(fmap.shape) for fmap in maps] == [
        (2, channels, *size) for channels, size in zip(kind.channels, sizes, strict=True)]
    assert image.shape == (2, EMBED_DIM)
    assert dense.shape == (2, EMBED_DIM, *sizes[kind.dense])
    assert backbone.embed_dim == EMBED_DIM
    for tensor in (*maps, image, dense):
        assert tensor.isfinite().all()
        assert not torch.equal(tensor[0], tensor[1])


@each(KINDS)
def test_image_size_sets_the_grid_of_the_table(kind: Kind, request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, image_size=(64, 128))
    tables = [parameter for name, parameter in backbone.named_parameters()
              if name.endswith('positional_embedding')]
    height, width = (kind.sizes(side)[kind.dense] for side in (64, 128))
    assert [len(table) for table in tables] == (
        [] if kind.type is CLIPConvNeXt else [1 + height * width])


# gradients ---------------------------------------------------------------------------------------


@each(KINDS)
@pytest.mark.parametrize('with_embeddings', [True, False])
def test_gradient_reaches_every_parameter(kind: Kind, with_embeddings: bool,
                                          request: pytest.FixtureRequest) -> None:
    """DistributedDataParallel stops at parameters that no output depends on."""
    if kind.type is AlignedBackbone and not with_embeddings:
        pytest.skip('AlignedBackbone without embeddings is the stock backbone')
    changes = {} if kind.type is AlignedBackbone else dict(with_embeddings=with_embeddings)
    backbone = kind.build(request, **changes).train()
    outputs = backbone(images())
    assert isinstance(outputs[-1], tuple) == with_embeddings
    assert len(outputs) == 4 + with_embeddings
    sum(tensor.square().mean() for tensor in flat(outputs)).backward()
    without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert without == []


@each(CLIP_KINDS)
def test_without_embeddings_the_maps_are_the_same(kind: Kind, tmp_path: Path,
                                                  request: pytest.FixtureRequest) -> None:
    """Also through the weight file, of which the pooling part has to be left out."""
    save_clip(request.getfixturevalue(kind.config), tmp_path / 'clip.pt')
    maps = []
    for with_embeddings in (True, False):
        backbone = kind.build(request, with_embeddings=with_embeddings,
                              pretrained=str(tmp_path / 'clip.pt'))
        backbone.init_weights()
        if hasattr(backbone, 'pyramid'):
            randomise(backbone.pyramid)
            torch.manual_seed(5)
            for layer in backbone.pyramid.modules():
                if isinstance(layer, nn.ConvTranspose2d):
                    nn.init.normal_(layer.weight)
        with torch.no_grad():
            maps.append(backbone.eval()(images())[:4])
    for with_pair, alone in zip(*maps, strict=True):
        assert torch.equal(with_pair, alone)


def test_blocks_after_the_last_map_are_cut_without_embeddings(tiny_vit: dict, tmp_path: Path,
                                                              ) -> None:
    clip = save_clip(tiny_vit, tmp_path / 'clip.pt')
    backbone = CLIPVisionTransformer(
        model=tiny_vit, pretrained=str(tmp_path / 'clip.pt'), out_indices=(0, 1, 2, 2 - 2 + 1),
        with_embeddings=False) if False else CLIPVisionTransformer(
            model=dict(tiny_vit, vision_cfg=dict(tiny_vit['vision_cfg'], layers=6)),
            out_indices=(0, 1, 2, 4), with_embeddings=False)
    assert clip is not None
    assert len(backbone.tower.transformer.resblocks) == 5
