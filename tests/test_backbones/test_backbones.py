"""Backbones: maps, embedding pair and options, against open_clip's own towers and torch's parts."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from denseclip_mm.backbones import (
    AlignedBackbone,
    CLIPResNet,
    CLIPTIMMBackbone,
    CLIPVisionTransformer,
    DenseAttentionPool,
)
from denseclip_mm.backbones.pyramid import check_out_indices

import open_clip
import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict
from mmseg.registry import MODELS
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

EMBED_DIM = 24
STOCK_RESNET = dict(type='ResNetV1c', depth=18, stem_channels=16, base_channels=16)
TIMM_RESNET = dict(type='TIMMBackbone', model_name='test_resnet', pretrained=False,
                   features_only=True, out_indices=(1, 2, 3, 4))


@pytest.fixture
def tiny_clipa(tiny_vit: dict) -> dict:
    """open_clip config of a ViT that pools by a mean, as CLIPA's do."""
    return dict(tiny_vit, vision_cfg=dict(tiny_vit['vision_cfg'], pool_type='avg', no_ln_pre=True,
                                          final_ln_after_pool=True))


@pytest.fixture
def deep_vit(tiny_vit: dict) -> dict:
    """open_clip config of a ViT with a block more than the maps need."""
    return dict(tiny_vit, vision_cfg=dict(tiny_vit['vision_cfg'], layers=6))


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def up(size: int) -> int:
    """Half, rounded up: what a convolution of stride 2 with padding leaves."""
    return -(-size // 2)


def down(size: int) -> int:
    """Half, rounded down: what pooling by 2 leaves."""
    return size // 2


def repeated(halve: Callable[[int], int], size: int) -> list[int]:
    """Sizes of four stages of which each but the first halves its input."""
    sizes = [size]
    while len(sizes) < 4:
        sizes.append(halve(sizes[-1]))
    return sizes


@dataclass(frozen=True)
class Kind:
    """A backbone under test.

    Attributes:
        type: the class.
        config: the fixture that holds its open_clip config, or ``'timm:'`` and one of timm's
            towers; None for stock backbones.
        arguments: beside ``model``.
        channels: of its maps.
        sizes: side of the input to sides of the maps.
        dense: which map has the size of the dense embedding.
        stages: the stem and the stages, as beginnings of parameter names.
        last: the first layer of the last block.
        norms: number of batch norms.
    """

    type: type[nn.Module]
    config: str | None
    arguments: dict
    channels: tuple[int, ...]
    sizes: Callable[[int], list[int]]
    dense: int = 3
    stages: tuple[str | tuple[str, ...], ...] = ()
    last: str = ''
    norms: int = 0

    def clip(self, request: pytest.FixtureRequest) -> dict:
        """Its open_clip config."""
        kind, _, name = self.config.partition(':')
        return request.getfixturevalue('timm_clip')(name) if name else (
            request.getfixturevalue(kind))

    def build(self, request: pytest.FixtureRequest, **changes: object) -> nn.Module:
        """By its registered name, as a config builds it; the same weights every time."""
        arguments = dict(self.arguments, type=self.type.__name__)
        if self.config is not None:
            arguments['model'] = self.clip(request)
        torch.manual_seed(0)
        return randomise(MODELS.build({**arguments, **changes}))


CLIP_KINDS = {
    'resnet': Kind(
        CLIPResNet, 'tiny_resnet', dict(), (32, 64, 128, 256),
        lambda side: repeated(down, up(side) // 2),
        stages=(('tower.conv', 'tower.bn'), *(f'tower.layer{n}.' for n in (1, 2, 3, 4))),
        last='tower.layer4.0.conv1', norms=19),
    'vit': Kind(
        CLIPVisionTransformer, 'tiny_vit', dict(out_indices=(0, 1, 2, 3)), (64, ) * 4,
        lambda side: [side // 16 * 4, side // 16 * 2, side // 16, side // 32], dense=2,
        stages=(('tower.conv1.', 'tower.class_embedding', 'tower.positional_embedding',
                 'tower.ln_pre.'), *(f'tower.transformer.resblocks.{n}.' for n in range(4))),
        last='tower.transformer.resblocks.3.ln_1', norms=1),
    'clipa': Kind(
        CLIPVisionTransformer, 'tiny_clipa', dict(), (64, ) * 4,
        lambda side: [side // 16 * 4, side // 16 * 2, side // 16, side // 32], dense=2,
        stages=(('tower.conv1.', 'tower.class_embedding', 'tower.positional_embedding',
                 'tower.ln_pre.'), *(f'tower.transformer.resblocks.{n}.' for n in range(4))),
        last='tower.transformer.resblocks.3.ln_1', norms=1),
}


def timm_vit(name: str, channels: int = 64, norms: int = 1) -> Kind:
    """A ViT of timm: four blocks, patches of 16."""
    trunk = 'tower.trunk.'
    return Kind(
        CLIPTIMMBackbone, f'timm:{name}', dict(), (channels, ) * 4, CLIP_KINDS['vit'].sizes,
        dense=2, stages=(tuple(trunk + part for part in (
            'patch_embed', 'cls_token', 'pos_embed', 'pos_drop', 'patch_drop', 'rope',
            'norm_pre')), *(f'{trunk}blocks.{n}.' for n in range(4))),
        last=f'{trunk}blocks.3.norm1', norms=norms)


TIMM_VITS = {'siglip': timm_vit('siglip', 24), 'eva02': timm_vit('eva02'), 'pe': timm_vit('pe'),
             'mobileclip_b': timm_vit('mobileclip_b', norms=3), 'vitamin': timm_vit('vitamin')}
TIMM_KINDS = {
    **TIMM_VITS,
    'fastvit': Kind(
        CLIPTIMMBackbone, 'timm:fastvit', dict(), (32, 32, 64, 64),
        lambda side: repeated(up, up(up(side))),
        stages=('tower.trunk.stem.', *(f'tower.trunk.stages.{n}.' for n in range(4))),
        last='tower.trunk.stages.3.blocks.0.token_mixer.proj', norms=37),
    'convnext': Kind(
        CLIPTIMMBackbone, 'timm:convnext', dict(), (24, 32, 48, 64),
        lambda side: repeated(down, side // 4),
        stages=('tower.trunk.stem.', *(f'tower.trunk.stages.{n}.' for n in range(4))),
        last='tower.trunk.stages.3.blocks.0.conv_dw'),
}
OPEN_CLIP_KINDS = CLIP_KINDS
CLIP_KINDS = CLIP_KINDS | TIMM_KINDS
STOCK_KINDS = {
    f'aligned-{name}': Kind(
        AlignedBackbone, None,
        dict(backbone=backbone, embed_dim=EMBED_DIM, image_size=64, head_channels=16), channels,
        lambda side: repeated(up, up(up(side))))
    for name, backbone, channels in (('mmseg', STOCK_RESNET, (16, 32, 64, 128)),
                                     ('timm', TIMM_RESNET, (32, 48, 192, 96)))
}
KINDS = CLIP_KINDS | STOCK_KINDS
WITH_TABLE = OPEN_CLIP_KINDS | STOCK_KINDS  # position tables that are resized where they are loaded
CUT_VIT = Kind(CLIPVisionTransformer, 'deep_vit', dict(out_indices=(0, 1, 2, 4)), (64, ) * 4,
               CLIP_KINDS['vit'].sizes, dense=2)


def each(kinds: dict[str, Kind], *without: str) -> pytest.MarkDecorator:
    kinds = {name: kind for name, kind in kinds.items() if name not in without}
    return pytest.mark.parametrize('kind', kinds.values(), ids=kinds.keys())


def randomise(module: nn.Module) -> nn.Module:
    """Make every tensor count: zero-initialised norms and layer scales would hide what follows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim < 2:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise - 0.5 if name.endswith(('bias', 'mean')) else noise + 0.5)
            elif tensor.is_floating_point() and tensor.std() < 0.5 * tensor[0].numel()**-0.5:
                tensor.normal_(std=tensor[0].numel()**-0.5, generator=generator)  # timm's are small
    return module


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height + width))


def flat(outputs: tuple) -> list[Tensor]:
    """Maps and, if it is there, the embedding pair."""
    return [*outputs[:-1], *outputs[-1]] if isinstance(outputs[-1], tuple) else list(outputs)


def resized(table: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """A position table resized bilinearly: each axis a matrix of hat functions."""
    rows, columns = (hats(*sizes) for sizes in zip(source, target, strict=True))
    cells = table[1:].detach().unflatten(0, source)
    cells = torch.einsum('tr,uc,rcd->tud', rows, columns, cells)
    return torch.cat([table[:1].detach(), cells.flatten(0, 1)])


def hats(source: int, target: int) -> Tensor:
    """(target, source) weights of linear interpolation between the centres of cells."""
    centres = ((torch.arange(target) + 0.5) * source / target - 0.5).clamp(0, source - 1)
    return (1 - (centres[:, None] - torch.arange(source)).abs()).clamp(min=0)


def save_clip(config: dict, path: Path) -> open_clip.CLIP:
    """A whole open_clip model, random in every tensor, and its state dict at the path."""
    torch.manual_seed(3)
    clip = randomise(open_clip.CLIP(**config)).eval().requires_grad_(False)
    torch.save(clip.state_dict(), path)
    return clip


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).norm() <= tolerance * theirs.norm()


def attention_pool(pool: nn.Module, fmap: Tensor, num_heads: int,
                   grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """CLIP's attention pool by torch's own multi-head attention: global and dense embedding."""
    width, size = fmap.shape[1], tuple(fmap.shape[2:])
    attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
    projections = (pool.q_proj, pool.k_proj, pool.v_proj)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        attention.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
        attention.out_proj.weight.copy_(torch.eye(width))
        cells = torch.einsum('bchw->bhwc', fmap).flatten(1, 2)
        tokens = torch.cat([cells.mean(1, keepdim=True), cells], dim=1)
        tokens = tokens + resized(pool.positional_embedding, grid, size)
        tokens = attention(tokens, tokens, tokens)[0] @ pool.c_proj.weight.T + pool.c_proj.bias
    return tokens[:, 0], torch.einsum('bnc->bcn', tokens[:, 1:]).reshape(len(fmap), -1, *size)


# Shapes


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
@pytest.mark.parametrize('image_size', [0, -64, (64, 0), (64, 64, 3)])
def test_what_is_no_image_size_is_refused(kind: Kind, image_size: int | tuple[int, ...],
                                          request: pytest.FixtureRequest) -> None:
    with pytest.raises(ValueError, match='is no size'):
        kind.build(request, image_size=image_size)


@each(KINDS)
@pytest.mark.parametrize('image_size', [64, (64, 128)])
def test_image_size_sets_the_rows_of_the_position_table(
        kind: Kind, image_size: int | tuple[int, int], request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, image_size=image_size)
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    rows = 1 + kind.sizes(height)[kind.dense] * kind.sizes(width)[kind.dense]
    tables = [len(table) for name, table in backbone.named_parameters()
              if name.endswith('positional_embedding')]
    assert tables == [rows] * (kind.type is not CLIPTIMMBackbone)


# Values


@each(CLIP_KINDS)
@pytest.mark.parametrize('size', [(64, 64), (96, 64), (160, 128)])
def test_global_embedding_equals_open_clip(kind: Kind, size: tuple[int, int], tmp_path: Path,
                                           request: pytest.FixtureRequest) -> None:
    """At sizes that are not the model's own, open_clip's tower is given a resized table."""
    clip = save_clip(kind.clip(request), tmp_path / 'clip.pt')
    backbone = kind.build(request, pretrained=str(tmp_path / 'clip.pt'))
    backbone.init_weights()
    with torch.no_grad():
        image, _ = backbone.eval()(images(*size))[-1]
        owner = {CLIPResNet: getattr(clip.visual, 'attnpool', None),
                 CLIPVisionTransformer: clip.visual, CLIPTIMMBackbone: None}[kind.type]
        if hasattr(getattr(clip.visual, 'trunk', None), 'set_input_size'):
            clip.visual.set_input_size(size)
        if owner is not None:
            grid, own = (tuple(kind.sizes(side)[kind.dense] for side in sides)
                         for sides in (size, (64, 64)))
            owner.positional_embedding = nn.Parameter(
                resized(owner.positional_embedding, own, grid))
        close(image, clip.visual(images(*size)))


@each(CLIP_KINDS, 'vit', 'clipa', *TIMM_VITS)
def test_maps_equal_open_clip(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    clip = save_clip(kind.clip(request), tmp_path / 'clip.pt')
    backbone = kind.build(request, pretrained=str(tmp_path / 'clip.pt'))
    backbone.init_weights()
    with torch.no_grad():
        maps = backbone.eval()(images(75, 101))[:-1]
        theirs = clip.visual.forward_intermediates(images(75, 101), indices=len(maps),
                                                   intermediates_only=True)
    for ours, expected in zip(maps, theirs['image_intermediates'], strict=True):
        close(ours, expected)


def test_vit_pyramid_and_dense_embedding(tiny_vit: dict, tmp_path: Path) -> None:
    """From open_clip's intermediate tokens, by functional calls with the pyramid's weights."""
    clip = save_clip(tiny_vit, tmp_path / 'clip.pt').visual
    backbone = CLIPVisionTransformer(model=tiny_vit, pretrained=str(tmp_path / 'clip.pt'),
                                     out_indices=(0, 1, 2, 3))
    randomise(backbone).init_weights()
    with torch.no_grad():
        *maps, (_, dense) = backbone.eval()(images())
        taken = clip.forward_intermediates(images(), indices=[0, 1, 2, 3])['image_intermediates']
        tokens = clip.ln_post(clip.transformer(clip._embeds(images())))[:, 1:] @ clip.proj

        weights = dict(backbone.pyramid.named_parameters())
        weights.update(backbone.pyramid.named_buffers())

        def normed(level: int) -> Tensor:
            return F.group_norm(taken[level], 1, weights[f'{level}.0.weight'],
                                weights[f'{level}.0.bias'])

        def doubled(fmap: Tensor, name: str) -> Tensor:
            return F.conv_transpose2d(fmap, weights[f'{name}.weight'], weights[f'{name}.bias'],
                                      stride=2)

        finest = F.batch_norm(doubled(normed(0), '0.1'), weights['0.2.running_mean'],
                              weights['0.2.running_var'], weights['0.2.weight'],
                              weights['0.2.bias'])
        expected = [doubled(F.gelu(finest), '0.4'), doubled(normed(1), '1.1'), normed(2),
                    F.max_pool2d(normed(3), 2)]
    for ours, theirs in zip(maps, expected, strict=True):
        close(ours, theirs)
    close(dense, tokens.transpose(1, 2).reshape(2, EMBED_DIM, 4, 4))


def test_convnext_dense_embedding_is_the_head_of_every_cell(
        request: pytest.FixtureRequest) -> None:
    backbone = TIMM_KINDS['convnext'].build(request).eval()
    with torch.no_grad():
        *maps, (image, dense) = backbone(images(96, 64))
        head = backbone.tower.trunk.head.norm
        for channels_last, embedding in ((maps[3].permute(0, 2, 3, 1), dense.permute(0, 2, 3, 1)),
                                         (maps[3].mean((2, 3)), image)):
            normed = F.layer_norm(channels_last, (64, ), head.weight, head.bias, head.eps)
            close(embedding, normed @ backbone.tower.head.proj.weight.T)


@pytest.mark.parametrize('with_embeddings', [True, False])
def test_checkpoint_of_the_former_convnext_backbone(
        with_embeddings: bool, timm_clip: Callable[[str], dict]) -> None:
    """``CLIPConvNeXt`` held open_clip's tower as ``tower``, without embeddings without its head."""
    config = timm_clip('convnext')
    former = randomise(open_clip.CLIP(**config)).visual.eval()
    state = {f'tower.{key}': value for key, value in former.state_dict().items()
             if with_embeddings or not key.startswith(('trunk.head.', 'head.'))}
    assert 'tower.trunk.stages.1.downsample.1.weight' in state
    assert ('tower.trunk.head.norm.weight' in state) == with_embeddings
    backbone = CLIPTIMMBackbone(model=config, with_embeddings=with_embeddings).eval()
    backbone.load_state_dict(state, strict=True)
    with torch.no_grad():
        outputs = backbone(images(96, 64))
        x = former.trunk.stem(images(96, 64))
        for index, stage in enumerate(former.trunk.stages):
            x = stage(x)
            close(outputs[index], x)
        if with_embeddings:
            close(outputs[4][0], former(images(96, 64)))


@pytest.mark.parametrize(('grid', 'size'), [
    ((4, 4), (4, 4)), ((4, 4), (3, 6)), ((2, 6), (2, 6)), ((2, 6), (6, 2)), ((3, 2), (1, 1))])
def test_dense_attention_pool(grid: tuple[int, int], size: tuple[int, int]) -> None:
    pool = randomise(DenseAttentionPool(in_channels=32, embed_dim=12, num_heads=4, grid=grid))
    fmap = torch.randn(2, 32, *size)
    with torch.no_grad():
        outputs = pool(fmap)
    for ours, theirs in zip(outputs, attention_pool(pool, fmap, 4, grid), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize(('dtype', 'error'), [
    (torch.float32, 1e-6), (torch.bfloat16, 0.008), (torch.float16, 0.001)])
@pytest.mark.parametrize(('channels', 'embed_dim', 'size'), [
    (256, 64, (2, 2)), (256, 64, (1, 1)), (32, 12, (3, 5)), (2048, 1024, (7, 7))])
def test_the_pool_projects_as_in_float64(channels: int, embed_dim: int, size: tuple[int, int],
                                         dtype: torch.dtype, error: float) -> None:
    """Small maps, too, of which a convolution in bfloat16 is wrong by 0.24 on some CPUs."""
    pool = randomise(DenseAttentionPool(in_channels=channels, embed_dim=embed_dim, num_heads=4,
                                        grid=size, dense_embedding='value')).to(dtype)
    fmap = torch.randn(1, channels, *size).to(dtype)
    with torch.no_grad():
        dense = pool(fmap)[1].double()
        cells = fmap.double().flatten(2)[0]
        for layer in (pool.v_proj, pool.c_proj):
            cells = layer.weight.double() @ cells + layer.bias.double()[:, None]
    close(dense[0].flatten(1), cells, error)


@pytest.mark.parametrize('kind', ['attended', 'value', 'value-value'])
def test_fused_attention_gets_rows_in_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single row, too: CUDA's kernel refuses rows whose stride is no multiple of four."""
    seen = []

    def attention(*tensors: Tensor, **options: float) -> Tensor:
        seen.append(tensors)
        return attend(*tensors, **options)
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(F, 'scaled_dot_product_attention', attention)
    pool = DenseAttentionPool(in_channels=64, embed_dim=32, num_heads=2, grid=(4, 4),
                              dense_embedding=kind)
    pool(torch.rand(2, 64, 4, 6))
    assert seen[0][0].shape[2] == (25 if kind == 'attended' else 1)
    assert all(each.stride() == torch.empty(each.shape).stride() for each in seen[0])


@pytest.mark.parametrize('size', [(3, 5), (1, 2), (5, 5)])
def test_cropped_positions_are_the_table_s_top_left(size: tuple[int, int]) -> None:
    """As a pool of just these rows; where a map is larger, the side that it exceeds is enlarged."""
    pool = randomise(DenseAttentionPool(in_channels=32, embed_dim=12, num_heads=4, grid=(4, 6),
                                        positions='cropped'))
    table = pool.positional_embedding.detach()
    cells = table[1:].reshape(4, 6, 32)
    if size[0] > 4:  # along rows alone
        cells = F.interpolate(cells.permute(1, 2, 0), size=size[0], mode='linear').permute(2, 0, 1)
    rows = [table[:1], *(cells[row, :size[1]] for row in range(size[0]))]
    plain = DenseAttentionPool(in_channels=32, embed_dim=12, num_heads=4, grid=size)
    plain.load_state_dict({**pool.state_dict(), 'positional_embedding': torch.cat(rows),
                           'position_grid': torch.tensor(size)})
    fmap = torch.randn(2, 32, *size)
    with torch.no_grad():
        for ours, theirs in zip(pool(fmap), plain(fmap), strict=True):
            close(ours, theirs)


def test_positions_are_interpolated_or_cropped(tiny_resnet: dict) -> None:
    backbone = CLIPResNet(model=tiny_resnet, positions='cropped')
    assert backbone.tower.attnpool.positions == 'cropped'
    with pytest.raises(ValueError, match=r"'interpolated' or 'cropped', got 'croped'"):
        CLIPResNet(model=tiny_resnet, positions='croped')


@pytest.mark.parametrize(('grid', 'size'), [((4, 4), (4, 4)), ((2, 6), (3, 5))])
def test_value_embedding_of_a_pool_is_one_linear_map_of_each_cell(
        grid: tuple[int, int], size: tuple[int, int]) -> None:
    """MaskCLIP: value and output projection as 1 x 1 convolutions; the global one is CLIP's."""
    pool = randomise(DenseAttentionPool(in_channels=32, embed_dim=12, num_heads=4, grid=grid,
                                        dense_embedding='value'))
    fmap = torch.randn(2, 32, *size)
    with torch.no_grad():
        image, dense = pool(fmap)
        close(image, attention_pool(pool, fmap, 4, grid)[0])
        values = F.conv2d(fmap, pool.v_proj.weight[:, :, None, None], pool.v_proj.bias)
        close(dense, F.conv2d(values, pool.c_proj.weight[:, :, None, None], pool.c_proj.bias))


def test_value_embedding_of_a_vit(deep_vit: dict, tmp_path: Path) -> None:
    """open_clip's own last block, with a mask that leaves every token alone with itself."""
    clip = save_clip(deep_vit, tmp_path / 'clip.pt').visual
    attended, value = (
        randomise(CLIPVisionTransformer(model=deep_vit, pretrained=str(tmp_path / 'clip.pt'),
                                        out_indices=(0, 1, 2, 4), dense_embedding=kind)).eval()
        for kind in ('attended', 'value'))
    attended.init_weights()
    value.load_state_dict(attended.state_dict())
    with torch.no_grad():
        *maps, (image, dense) = value(images(96, 64))
        *other_maps, (other_image, other_dense) = attended(images(96, 64))
        for ours, theirs in zip((*maps, image), (*other_maps, other_image), strict=True):
            assert torch.equal(ours, theirs)
        assert (dense - other_dense).norm() > 0.01 * dense.norm()

        tokens = clip._embeds(images())
        for block in clip.transformer.resblocks[:-1]:
            tokens = block(tokens)
        alone = torch.full((17, 17), float('-inf')).fill_diagonal_(0)
        tokens = clip.transformer.resblocks[-1](tokens, attn_mask=alone)[:, 1:]
        expected = (clip.ln_post(tokens) @ clip.proj).transpose(1, 2).reshape(2, EMBED_DIM, 4, 4)
        close(value(images())[-1][1], expected)


def mixed(values: Tensor, weights: Tensor) -> Tensor:
    """Values (N, E) of one head, mixed by the softmax of (N, N)."""
    shares = weights.exp() / weights.exp().sum(1, keepdim=True)
    return torch.stack([sum(share * value for share, value in zip(row, values, strict=True))
                        for row in shares])


def of_heads(layer: Callable, tokens: Tensor, heads: int) -> list[Tensor]:
    """What a projection makes of tokens (N, D), head after head."""
    return list(layer(tokens).chunk(heads, dim=1))


def test_value_value_attention_of_the_resnet_computed_head_by_head(
        request: pytest.FixtureRequest) -> None:
    backbone = CLIP_KINDS['resnet'].build(request, dense_embedding='value-value').eval()
    pool = backbone.tower.attnpool
    with torch.no_grad():
        *_, last, (_, dense) = backbone(images())
        outputs = []
        for values in of_heads(pool.v_proj, last[0].flatten(1).T, pool.num_heads):
            unit = values / values.norm(dim=1, keepdim=True)
            outputs.append(mixed(values, 5 * unit @ unit.T))
        expected = pool.c_proj(torch.cat(outputs, 1)).T.reshape(dense.shape[1:])
    close(dense[0], expected)


@pytest.mark.parametrize('dense_embedding', ['value-value', 'neighbour'])
def test_other_attentions_of_the_vit_computed_head_by_head(
        dense_embedding: str, request: pytest.FixtureRequest) -> None:
    backbone = CLIP_KINDS['vit'].build(request, dense_embedding=dense_embedding).eval()
    clip = backbone.tower
    block, size = clip.transformer.resblocks[-1], 4
    attention = block.attn
    heads, width = attention.num_heads, attention.embed_dim
    with torch.no_grad():
        x = clip._embeds(images())
        for each_block in clip.transformer.resblocks[:-1]:
            x = each_block(x)
        x = x[0]  # the first image: class token, then cells

        def projection(number: int) -> Callable:
            part = slice(number * width, (number + 1) * width)
            return lambda y: y @ attention.in_proj_weight[part].T + attention.in_proj_bias[part]
        normed = block.ln_1(x)
        keys, values = (of_heads(projection(number), normed, heads) for number in (1, 2))
        outputs = []
        for k, v in zip(keys, values, strict=True):
            if dense_embedding == 'value-value':
                unit = v[1:] / v[1:].norm(dim=1, keepdim=True)
                outputs.append(mixed(v[1:], 5 * unit @ unit.T))
                continue
            weights = k @ k.T / k.shape[1]**0.5
            for i in range(size**2):
                for j in range(size**2):
                    square = (i // size - j // size)**2 + (i % size - j % size)**2
                    weights[1 + i, 1 + j] += math.exp(-square / (2 * 5**2))
            outputs.append(mixed(v, weights)[1:])
        y = attention.out_proj(torch.cat(outputs, 1))
        if dense_embedding == 'value-value':  # as MaskCLIP: residual and MLP stay
            y = x[1:] + y
            y = y + block.mlp(block.ln_2(y))
        expected = (clip.ln_post(y) @ clip.proj).T.reshape(EMBED_DIM, size, size)
        close(backbone(images())[-1][1][0], expected)


@pytest.mark.parametrize('kind', ['resnet', 'vit'])
def test_unknown_dense_embedding(kind: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ValueError, match="dense_embedding must be 'attended' or 'value'"):
        CLIP_KINDS[kind].build(request, dense_embedding='values')


def test_stages_without_stride(tiny_resnet: dict) -> None:
    """Stage by stage from open_clip's blocks, the pooling left out; the weights are the same."""
    plain = CLIP_KINDS['resnet'].type(model=tiny_resnet)
    fine = CLIPResNet(model=tiny_resnet, strides=(1, 2, 1, 1))
    randomise(plain).eval()
    grid = fine.tower.attnpool.positional_embedding
    assert len(grid) == 1 + 8 * 8
    state = plain.state_dict()
    state['tower.attnpool.positional_embedding'] = grid.detach()
    state['tower.attnpool.position_grid'] = torch.tensor([8, 8])
    fine.load_state_dict(state)
    fine.eval()
    with torch.no_grad():
        *maps, (_, dense) = fine(images())
        x = plain(images())[1]
        assert torch.equal(maps[1], x)
        for index, layer in ((2, plain.tower.layer3), (3, plain.tower.layer4)):
            block = layer[0]
            y = block.act1(block.bn1(block.conv1(x)))
            y = block.bn3(block.conv3(block.act2(block.bn2(block.conv2(y)))))
            shortcut = block.downsample[2](block.downsample[1](x))
            x = F.relu(y + shortcut)
            close(maps[index], x)
    assert dense.shape[2:] == (8, 8)


@pytest.mark.parametrize('strides', [(1, 2, 2), (2, 2, 2, 2), (1, 2, 4, 1)])
def test_wrong_strides(tiny_resnet: dict, strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='the first stage has stride 1, the other three 1 or 2'):
        CLIPResNet(model=tiny_resnet, strides=strides)


@each(STOCK_KINDS)
@pytest.mark.parametrize('head_channels', [16, 32])
def test_aligned_backbone_pools_the_last_stock_map(kind: Kind, head_channels: int,
                                                   request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, head_channels=head_channels).eval()
    num_heads = kind.channels[-1] // head_channels
    with torch.no_grad():
        *maps, pair = backbone(images(96, 64))
        stock = backbone.backbone(images(96, 64))
    for ours, theirs in zip(maps, stock, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(pair, attention_pool(backbone.pool, stock[-1], num_heads, (2, 2)),
                            strict=True):
        close(ours, theirs)


# Weights of another grid


@each(OPEN_CLIP_KINDS)
@pytest.mark.parametrize('image_size', [(96, 64), 128])
def test_pretrained_table_is_resized_to_the_crop(kind: Kind, image_size: int | tuple[int, int],
                                                 tmp_path: Path,
                                                 request: pytest.FixtureRequest) -> None:
    clip = save_clip(kind.clip(request), tmp_path / 'clip.pt')
    backbone = kind.build(request, pretrained=str(tmp_path / 'clip.pt'), image_size=image_size)
    backbone.init_weights()
    tables = [next(parameter for name, parameter in tower.named_parameters()
                   if name.endswith('positional_embedding'))
              for tower in (backbone.tower, clip.visual)]
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    own, grid = (tuple(kind.sizes(side)[kind.dense] for side in sides)
                 for sides in ((64, 64), (height, width)))
    close(tables[0].detach(), resized(tables[1], own, grid))


def table_of(backbone: nn.Module) -> tuple[str, Tensor]:
    """Name and value of the position table."""
    return next((name, value.detach().clone()) for name, value in backbone.named_parameters()
                if name.endswith('positional_embedding'))


def grid_of(kind: Kind, *sides: int) -> tuple[int, int]:
    """Height and width in cells of a crop."""
    return tuple(kind.sizes(side)[kind.dense] for side in sides)


# 64 x 256 and 256 x 64 have as many cells as 128 x 128.
CROPS = [((96, 96), (64, 64)), ((64, 64), (128, 128)), ((64, 256), (128, 128)),
         ((128, 128), (64, 256)), ((64, 256), (256, 64)), ((64, 128), (64, 96))]


@each(WITH_TABLE)
@pytest.mark.parametrize(('theirs', 'ours'), CROPS)
def test_checkpoint_of_another_crop(kind: Kind, theirs: tuple[int, int], ours: tuple[int, int],
                                    request: pytest.FixtureRequest) -> None:
    """Its table is resized to the model's grid; the parameter stays, its shape with it."""
    source, target = (kind.build(request, image_size=size).eval() for size in (theirs, ours))
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    parameters, shapes = list(target.parameters()), [p.shape for p in target.parameters()]
    target.load_state_dict(source.state_dict(), strict=True)
    assert all(map(lambda new, old: new is old, target.parameters(), parameters))
    assert [parameter.shape for parameter in target.parameters()] == shapes
    table = table_of(source)[1]
    close(table_of(target)[1], resized(table, grid_of(kind, *theirs), grid_of(kind, *ours)))
    grid = next(value for key, value in target.state_dict().items()
                if key.endswith('position_grid'))
    assert tuple(grid.tolist()) == grid_of(kind, *ours)

    same = kind.build(request, image_size=theirs).eval()
    same.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        for a, b in zip(flat(same(images(*theirs))), flat(source(images(*theirs))), strict=True):
            assert torch.equal(a, b), 'at its own crop a checkpoint is the same to the bit'


@each(WITH_TABLE)
def test_checkpoint_that_does_not_say_its_grid_is_square(kind: Kind,
                                                         request: pytest.FixtureRequest) -> None:
    """As CLIP's and the published ones are; one of as many rows as a model that is not, is its."""
    wide, square = (kind.build(request, image_size=size) for size in ((64, 256), (128, 128)))
    state = {key: value for key, value in square.state_dict().items()
             if not key.endswith('position_grid')}
    wide.load_state_dict(state, strict=True)
    close(table_of(wide)[1], resized(table_of(square)[1], grid_of(kind, 128, 128),
                                     grid_of(kind, 64, 256)))
    wider = kind.build(request, image_size=(64, 192))
    state = {key: value for key, value in wider.state_dict().items()
             if not key.endswith('position_grid')}
    table = table_of(wider)[1]
    wider.load_state_dict(state, strict=True)
    assert torch.equal(table_of(wider)[1], table)


@each(WITH_TABLE)
@pytest.mark.parametrize(('said', 'message'), [
    (None, r'has 7 rows, not 1 \+ a square grid, and the checkpoint does not say'),
    ((2, 4), r'position_grid is \(2, 4\), but .*positional_embedding has 7 rows'),
    ((-2, -3), r'position_grid is \(-2, -3\)'), ((6, ), r'position_grid is \(6,\)')])
@pytest.mark.parametrize('load', [nn.Module.load_state_dict, mmengine_load_state_dict])
def test_checkpoint_of_an_unknown_grid_is_refused(kind: Kind, said: tuple[int, ...] | None,
                                                  message: str, load: Callable,
                                                  request: pytest.FixtureRequest) -> None:
    """5 rows could only be a square; 7 rows could be 2 x 3 or 3 x 2. mmengine's loader would warn.

    The table stays as it was.
    """
    backbone = kind.build(request)
    name, table = table_of(backbone)
    grid = name.replace('tower.positional' if kind.type is CLIPVisionTransformer
                        else 'positional', 'position').replace('position_embedding',
                                                               'position_grid')
    state = backbone.state_dict()
    state[name] = state[name].new_zeros(7, state[name].shape[1])
    del state[grid]
    if said:
        state[grid] = torch.tensor(said)
    with pytest.raises(ValueError, match=message):
        load(backbone, state)
    assert torch.equal(table_of(backbone)[1], table)


@each(WITH_TABLE)
@pytest.mark.parametrize(('theirs', 'ours'), [((64, 64), (128, 128)), ((64, 256), (128, 128)),
                                              ((128, 128), (64, 128))])
def test_fine_tuning_under_ddp(kind: Kind, theirs: tuple[int, int], ours: tuple[int, int],
                               one_process: None, request: pytest.FixtureRequest) -> None:
    """A model is wrapped before it loads a checkpoint: gradients fit what was wrapped."""
    sync_bn = dict(sync_bn=False) if kind.type is CLIPVisionTransformer else {}
    source = kind.build(request, image_size=theirs, **sync_bn)
    wrapped = DistributedDataParallel(kind.build(request, image_size=ours, **sync_bn))
    mmengine_load_state_dict(wrapped, source.state_dict(), strict=True)
    close(table_of(wrapped)[1],
          resized(table_of(source)[1], grid_of(kind, *theirs), grid_of(kind, *ours)))
    for _ in range(2):
        sum(output.sum() for output in flat(wrapped(images(*ours)))).backward()
    gradient = dict(wrapped.named_parameters())[table_of(wrapped)[0]].grad
    assert gradient.shape == table_of(wrapped)[1].shape and gradient.abs().sum() > 0


# Gradients and options


@pytest.mark.parametrize(('name', 'changes'), [
    *((name, dict()) for name in KINDS),
    *((name, dict(with_embeddings=False)) for name in CLIP_KINDS)])
def test_gradient_reaches_every_parameter(name: str, changes: dict,
                                          request: pytest.FixtureRequest) -> None:
    """DistributedDataParallel stops at parameters that no output depends on."""
    backbone = KINDS[name].build(request, **changes).train()
    outputs = backbone(images())
    assert len(outputs) == (4 if changes else 5)
    assert isinstance(outputs[-1], Tensor if changes else tuple)
    sum(tensor.square().mean() for tensor in flat(outputs)).backward()
    assert [name for name, parameter in backbone.named_parameters()
            if parameter.grad is None] == []


@each(CLIP_KINDS | {'vit-cut': CUT_VIT})
def test_maps_are_the_same_without_embeddings(kind: Kind, tmp_path: Path,
                                              request: pytest.FixtureRequest) -> None:
    """Also through a weight file, of which the pooling (and blocks without a map) stay unused."""
    save_clip(kind.clip(request), tmp_path / 'clip.pt')
    backbones = []
    for with_embeddings in (True, False):
        backbone = kind.build(request, with_embeddings=with_embeddings,
                              pretrained=str(tmp_path / 'clip.pt')).eval()
        backbone.init_weights()
        if hasattr(backbone, 'pyramid'):
            randomise(backbone.pyramid)
        backbones.append(backbone)
    with torch.no_grad():
        both, alone = (backbone(images()) for backbone in backbones)
    for ours, theirs in zip(alone, both[:4], strict=True):
        assert torch.equal(ours, theirs)
    sizes = [sum(parameter.numel() for parameter in backbone.parameters())
             for backbone in backbones]
    assert sizes[1] < sizes[0]


@each(CLIP_KINDS)
def test_gradient_checkpointing_changes_nothing(kind: Kind,
                                                request: pytest.FixtureRequest) -> None:
    results, calls = [], []
    for with_cp in (False, True):
        backbone = kind.build(request, with_cp=with_cp).train()
        calls.append(0)

        def count(*args: object) -> None:
            calls[-1] += 1

        backbone.get_submodule(kind.last).register_forward_hook(count)
        outputs = flat(backbone(images()))
        sum(tensor.square().mean() for tensor in outputs).backward()
        results.append([*outputs, *(parameter.grad for parameter in backbone.parameters())])
    assert calls == [1, 2], 'the last block is computed again in backward'
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)


@each(CLIP_KINDS)
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages(kind: Kind, frozen_stages: int, request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, frozen_stages=frozen_stages).eval().train()
    beginnings = [start for stage in kind.stages[:frozen_stages + 1]
                  for start in ([stage] if isinstance(stage, str) else stage)]

    def is_frozen(name: str) -> bool:
        return any(name.startswith(start) for start in beginnings)

    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()
               if is_frozen(name)}
    sum(tensor.square().mean() for tensor in flat(backbone(images()))).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad != is_frozen(name), name
        assert (parameter.grad is None) == is_frozen(name), name
    for name, module in backbone.named_modules():
        if not list(module.children()):
            assert module.training != is_frozen(f'{name}.'), name
    for name, buffer in backbone.named_buffers():
        if is_frozen(name):
            assert torch.equal(buffer, buffers[name]), name
    assert not any(module.training for module in backbone.eval().modules())


@each(CLIP_KINDS)
def test_the_whole_image_tower_can_be_frozen(kind: Kind, request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, frozen_stages=5).train()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == name.startswith('pyramid.'), name
    for name, module in backbone.tower.named_modules():
        if not list(module.children()):
            assert not module.training or not list(module.parameters()), name
    image, dense = backbone(images())[-1]
    assert not image.requires_grad
    assert not dense.requires_grad


@each(CLIP_KINDS)
@pytest.mark.parametrize('with_embeddings', [True, False])
def test_stages_that_do_not_exist(kind: Kind, with_embeddings: bool,
                                  request: pytest.FixtureRequest) -> None:
    for frozen_stages in (-2, 5 + with_embeddings):
        with pytest.raises(ValueError, match=rf'frozen_stages={frozen_stages}, but .* has '
                                             rf'{4 + with_embeddings} stages'):
            kind.build(request, frozen_stages=frozen_stages, with_embeddings=with_embeddings)


@each(CLIP_KINDS)
@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval(kind: Kind, norm_eval: bool, request: pytest.FixtureRequest) -> None:
    backbone = kind.build(request, norm_eval=norm_eval).train()
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == kind.norms
    inside = [part for module in norms for part in module.modules()]
    for module in backbone.modules():
        assert module.training != (norm_eval and module in inside)


@pytest.mark.parametrize(('sync_bn', 'norm'), [(True, nn.SyncBatchNorm), (False, nn.BatchNorm2d)])
def test_vit_norm_between_processes(tiny_vit: dict, sync_bn: bool, norm: type[nn.Module]) -> None:
    backbone = CLIPVisionTransformer(model=tiny_vit, out_indices=(0, 1, 2, 3), sync_bn=sync_bn)
    assert [type(module) for module in backbone.modules()
            if isinstance(module, _BatchNorm)] == [norm]


def test_drop_path_grows_and_drops_in_training_only(request: pytest.FixtureRequest) -> None:
    plain, dropping = (CLIP_KINDS['vit'].build(request, drop_path_rate=rate)
                       for rate in (0.0, 0.9))
    rates = [[path.drop_prob for path in (block.ls_1, block.ls_2) if hasattr(path, 'drop_prob')]
             for block in dropping.tower.transformer.resblocks]
    assert rates[0] == []
    assert [pytest.approx([rate, rate]) for rate in (0.3, 0.6, 0.9)] == rates[1:]
    with torch.no_grad():
        expected = flat(plain.eval()(images()))
        for ours, theirs in zip(flat(dropping.eval()(images())), expected, strict=True):
            assert torch.equal(ours, theirs)
        # a map of block 0, which never drops, is as before; the last is another in every draw
        draws = [flat(dropping.train()(images())) for _ in range(2)]
        still, moving = (flat(plain.train()(images()))[level] for level in (0, 3))
        assert torch.equal(draws[0][0], still)
        assert not torch.equal(draws[0][3], moving)
        assert not torch.equal(draws[0][3], draws[1][3])


@each(TIMM_KINDS)
def test_dense_embedding_is_what_the_pooling_makes_of_each_cell_alone(
        kind: Kind, request: pytest.FixtureRequest) -> None:
    """By timm's own forward_head, given one cell of its own forward_features at a time."""
    backbone = kind.build(request).eval()
    trunk, head = backbone.tower.trunk, backbone.tower.head
    with torch.no_grad():
        dense = backbone(images(64, 96))[-1][1]
        cells = trunk.forward_features(images(64, 96))
        if cells.ndim == 3:
            cells = cells[:, trunk.num_prefix_tokens:].flatten(0, 1)[:, None]
        else:
            cells = cells.permute(0, 2, 3, 1).reshape(-1, cells.shape[1], 1, 1)
        expected = torch.cat([head(trunk.forward_head(cell)) for cell in cells.split(1)])
    close(dense, expected.unflatten(0, (2, *dense.shape[2:])).permute(0, 3, 1, 2))


@each(TIMM_KINDS, 'siglip', 'eva02', 'pe', 'mobileclip_b')
def test_mean_pool_embeds_the_mean_of_the_cells(kind: Kind,
                                                request: pytest.FixtureRequest) -> None:
    """The global embedding is that of one cell, the mean; behind a linear head, their mean."""
    backbone = kind.build(request).eval()
    trunk, head = backbone.tower.trunk, backbone.tower.head
    with torch.no_grad():
        image, dense = backbone(images(96, 64))[-1]
        cells = trunk.forward_features(images(96, 64))
        mean = (cells.mean(1, keepdim=True) if cells.ndim == 3 else
                cells.mean((2, 3), keepdim=True))
        close(image, head(trunk.forward_head(mean)))
        if kind is TIMM_KINDS['fastvit']:
            close(image, dense.mean((2, 3)))


@each(TIMM_VITS)
def test_value_embedding_of_a_vit_of_timm(kind: Kind, request: pytest.FixtureRequest) -> None:
    """A last block that is given each token as a sequence of its own."""
    attended, value = (kind.build(request, dense_embedding=name).eval()
                       for name in ('attended', 'value'))
    trunk, head = value.tower.trunk, value.tower.head
    with torch.no_grad():
        *maps, (image, dense) = value(images(64, 96))
        *other_maps, (other_image, other_dense) = attended(images(64, 96))
        for ours, theirs in zip((*maps, image), (*other_maps, other_image), strict=True):
            assert torch.equal(ours, theirs)
        assert (dense - other_dense).norm() > 1e-4 * dense.norm()
        tokens = trunk.forward_intermediates(images(64, 96), indices=[2], output_fmt='NLC',
                                             intermediates_only=True)[0].flatten(0, 1)
        alone = torch.cat([trunk.norm(trunk.blocks[-1](token[None, None])) for token in tokens])
        pooled = torch.cat([head(trunk.forward_head(token[None])) for token in alone])
    close(dense, pooled.unflatten(0, (2, 4, 6)).permute(0, 3, 1, 2))


def test_tower_of_five_stages(timm_clip: Callable[[str], dict]) -> None:
    """MobileCLIP2-S3 and S4: maps down to stride 64, where they are embedded."""
    backbone = randomise(CLIPTIMMBackbone(model=timm_clip('fastvit5'))).eval()
    with torch.no_grad():
        *maps, (image, dense) = backbone(images(128, 192))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (32, 32, 48), (32, 16, 24), (64, 8, 12), (64, 4, 6), (128, 2, 3)]
    assert dense.shape == (2, EMBED_DIM, 2, 3)
    close(image, dense.mean((2, 3)))


def test_default_maps_go_with_the_depth() -> None:
    """26 of open_clip's ViTs have more than 12 blocks."""
    expected = {12: [3, 5, 7, 11], 24: [7, 11, 15, 23], 32: [10, 15, 20, 31], 48: [15, 23, 31, 47]}
    assert {depth: check_out_indices(None, depth, '') for depth in expected} == expected
    for depth in range(6, 60):
        indices = check_out_indices(None, depth, '')
        assert len({*indices}) == 4 and indices[-1] == depth - 1
    with torch.device('meta'):
        assert CLIPVisionTransformer(model='ViT-L-14').out_indices == [7, 11, 15, 23]


def test_mean_pool_is_the_head_of_the_mean_of_cells(tiny_clipa: dict) -> None:
    """By functional calls, from the tokens of open_clip's own transformer."""
    backbone = randomise(CLIPVisionTransformer(model=tiny_clipa)).eval()
    tower = backbone.tower
    with torch.no_grad():
        image, dense = backbone(images())[-1]
        cells = tower.transformer(tower._embeds(images()))[:, 1:]

        def head(tokens: Tensor) -> Tensor:
            return F.layer_norm(tokens, (64, ), tower.ln_post.weight, tower.ln_post.bias,
                                tower.ln_post.eps) @ tower.proj

        close(image, head(cells.mean(1)))
        close(dense, head(cells).transpose(1, 2).unflatten(2, (4, 4)))


# Refusals


@each(KINDS)
def test_unknown_keyword(kind: Kind, request: pytest.FixtureRequest) -> None:
    with pytest.raises(TypeError, match='with_embedings'):
        kind.build(request, with_embedings=False)


@pytest.mark.parametrize(('backbone', 'model', 'message'), [
    (CLIPResNet, 'ViT-B-16', "tower of 'ViT-B-16' is a ViT, not a ResNet; use CLIPVisionTransf"),
    (CLIPResNet, 'convnext_base', 'is a timm, not a ResNet; use CLIPTIMMBackbone'),
    (CLIPVisionTransformer, 'RN50', 'is a ResNet, not a ViT; use CLIPResNet'),
    (CLIPVisionTransformer, 'ViT-B-16-SigLIP', 'is a timm, not a ViT'),
    (CLIPTIMMBackbone, 'RN50', 'is a ResNet, not a timm; use CLIPResNet'),
    (CLIPTIMMBackbone, 'swin_base_patch4_window7_224', 'is the SwinTransformer of timm'),
    (CLIPTIMMBackbone, 'vit_relpos_medium_patch16_cls_224', 'is the VisionTransformerRelPos'),
    (CLIPResNet, 'ViT-B-61', "no model 'ViT-B-61'; similar names: .*ViT-B-16"),
    (CLIPResNet, dict(embed_dim=8), r"lacks \['text_cfg', 'vision_cfg'\]"),
])
def test_model_of_another_kind(backbone: type[nn.Module], model: str | dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone(model=model)


@pytest.mark.parametrize(('name', 'vision', 'arguments', 'message'), [
    ('convnext', dict(timm_pool='rot_attn'), dict(), "timm_pool='rot_attn'.* takes '' and 'avg'"),
    ('convnext', dict(timm_pool='max'), dict(), "timm_pool='max'"),
    ('eva02', dict(timm_proj='none'), dict(),
     "timm_proj='none' and 64 channels, but embed_dim is 24"),
    ('siglip', dict(timm_pool=''), dict(), "timm_pool=''.* takes 'token', 'avg' and 'map'"),
    ('pe', dict(timm_pool='max'), dict(), "timm_pool='max'.* takes 'token', 'avg' and 'map'"),
    ('pe', dict(), dict(out_indices=(0, 1, 2, 4)), 'four of the blocks 0 to 3'),
    ('pe', dict(), dict(dense_embedding='neighbour'), "must be 'attended' or 'value', got 'neigh"),
    ('fastvit', dict(), dict(dense_embedding='value'), "must be 'attended', got 'value'"),
    ('fastvit', dict(), dict(out_indices=(0, 1, 2, 3)), 'is for ViTs; .*leave it out'),
])
def test_timm_tower_without_what_is_asked_for(
        timm_clip: Callable[[str], dict], name: str, vision: dict, arguments: dict,
        message: str) -> None:
    config = timm_clip(name)
    config['vision_cfg'].update(vision)
    with pytest.raises(ValueError, match=message):
        CLIPTIMMBackbone(model=config, **arguments)


@pytest.mark.parametrize(('vision', 'arguments', 'message'), [
    (dict(), dict(out_indices=(0, 1, 2)), r'out_indices=\(0, 1, 2\): four of the blocks 0 to 3'),
    (dict(), dict(out_indices=(0, 1, 2, 4)), r'four of the blocks 0 to 3'),
    (dict(), dict(out_indices=(-1, 0, 1, 2)), r'four of the blocks 0 to 3'),
    (dict(), dict(out_indices=(1, 1, 2, 3)), r'four of the blocks 0 to 3'),
    (dict(layers=3), dict(), r'out_indices=\(0, 1, 1, 2\): four of the blocks 0 to 2'),
    (dict(pool_type='none'), dict(), 'pools neither at its class token nor by a mean'),
    (dict(attentional_pool=True), dict(), 'pools neither at its class token nor by a mean'),
    (dict(ls_init_value=0.1), dict(out_indices=(0, 1, 2, 3), drop_path_rate=0.1),
     'drop_path_rate is not supported with the layer scale'),
])
def test_vit_without_what_is_asked_for(tiny_vit: dict, vision: dict, arguments: dict,
                                       message: str) -> None:
    tiny_vit['vision_cfg'].update(vision)
    with pytest.raises(ValueError, match=message):
        CLIPVisionTransformer(model=tiny_vit, **arguments)


def test_head_channels_must_divide_the_last_map() -> None:
    with pytest.raises(ValueError, match='128 channels, no multiple of head_channels=100'):
        AlignedBackbone(backbone=STOCK_RESNET, embed_dim=EMBED_DIM, image_size=64,
                        head_channels=100)
