"""CLIP's vision transformers as backbones."""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.backbones.dense_attention import (
    check_dense_embedding,
    neighbour,
    value_value,
)
from denseclip_mm.backbones.pyramid import check_out_indices, make_pyramid
from denseclip_mm.backbones.tower import CLIPTower
from denseclip_mm.positions import fit_position_table, resize_position_table

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F


def _last_block(block: nn.Module, x_BND: Tensor, kind: str, size: tuple[int, int]) -> Tensor:
    """The cells after a last block that attends in another way; ``x_BND`` starts with the class."""
    attention = block.attn
    q_k_v = F.linear(block.ln_1(x_BND), attention.in_proj_weight, attention.in_proj_bias)
    _, k_BANE, v_BANE = q_k_v.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if kind == 'neighbour':
        y_BANE = neighbour(k_BANE, v_BANE, size)[:, :, 1:]
    else:
        y_BANE = v_BANE[:, :, 1:] if kind == 'value' else value_value(v_BANE[:, :, 1:])
    y_BND = attention.out_proj(y_BANE.transpose(1, 2).flatten(2))
    if kind == 'neighbour':
        return y_BND
    x_BND = x_BND[:, 1:] + block.ls_1(y_BND)
    return x_BND + block.ls_2(block.mlp(block.ln_2(x_BND)))


class CLIPVisionTransformer(CLIPTower):
    """CLIP's ViT with a pyramid of four maps, at 1/4, 1/2, 1 and 2 patches a cell.

    The maps leave after the blocks ``out_indices``; the dense embedding is the normalised,
    projected tokens of the last block, at one patch a cell (DenseCLIP, section 4.1). The global
    one is that of the class token, or of the mean of the cells (CLIPA, Li et al. 2023).

    Args:
        out_indices: the four blocks, counted from 0, after which maps are taken; by default at a
            third, a half, two thirds and the end: (3, 5, 7, 11) of 12.
        drop_path_rate: stochastic depth, growing linearly to this rate over the blocks.
        dense_embedding: ``'attended'``: the cells' tokens after the last block; or ``'value'``:
            after a last block that passes the values of its attention on without mixing them
            (MaskCLIP, Zhou et al. 2022, section 3.2); or ``'value-value'``: that mixes the values
            by their likeness; or ``'neighbour'``: that mixes them by keys and nearness, and has
            neither residual nor MLP (NACLIP, Hajimiri et al. 2025; see
            :mod:`denseclip_mm.backbones.dense_attention`).
        sync_bn: whether the batch norm of the finest map is synchronised between processes (on a
            GPU); in a single process both are the same.
        model, pretrained, image_size, frozen_stages, norm_eval, with_cp, with_embeddings: see
            :class:`denseclip_mm.backbones.tower.CLIPTower`; a stage is a block.

    Raises:
        ValueError: if the model is unknown, is no plain ViT, or has not the blocks asked for, or
            ``dense_embedding`` is none of them.

    Examples:
        >>> small = dict(embed_dim=64, text_cfg=dict(), vision_cfg=dict(
        ...     image_size=64, patch_size=16, width=64, head_width=32, layers=4))
        >>> backbone = CLIPVisionTransformer(model=small, out_indices=(0, 1, 2, 3))
        >>> *maps, (image, dense) = backbone(torch.rand(2, 3, 64, 64))
        >>> [each.shape[-1] for each in maps], dense.shape
        ([16, 8, 4, 2], torch.Size([2, 64, 4, 4]))
    """

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 image_size: int | tuple[int, int] | None = None,
                 out_indices: Sequence[int] | None = None, drop_path_rate: float = 0.0,
                 dense_embedding: str = 'attended', sync_bn: bool = True, frozen_stages: int = -1,
                 norm_eval: bool = False, with_cp: bool = False,
                 with_embeddings: bool = True) -> None:
        super().__init__(model=model, pretrained=pretrained, image_size=image_size,
                         frozen_stages=frozen_stages, norm_eval=norm_eval, with_cp=with_cp,
                         with_embeddings=with_embeddings)
        self.tower = self.build_tower('ViT', image_size=self.image_size)
        blocks = self.tower.transformer.resblocks
        if self.tower.pool_type not in ('tok', 'avg') or self.tower.attn_pool is not None:
            raise ValueError(f'the ViT of {model!r} pools neither at its class token nor by a '
                             'mean; CLIPVisionTransformer needs one that does')
        self.out_indices = check_out_indices(out_indices, len(blocks), model)
        check_dense_embedding(
            dense_embedding, ('attended', 'value', 'value-value', 'neighbour'))
        self.dense_embedding = dense_embedding
        if drop_path_rate and any(not isinstance(block.ls_1, nn.Identity) for block in blocks):
            raise ValueError(f'drop_path_rate is not supported with the layer scale of {model!r}')
        rates = torch.linspace(0, drop_path_rate, len(blocks), device='cpu').tolist()
        for block, rate in zip(blocks, rates, strict=True):
            if rate:
                block.ls_1, block.ls_2 = DropPath(rate), DropPath(rate)
        self.tower.set_grad_checkpointing(with_cp)
        if not with_embeddings:
            self.tower.prune_intermediate_layers(self.out_indices, prune_norm=True)

        # for whoever loads the position table
        self.register_buffer('position_grid', torch.tensor(self.tower.grid_size))
        self.pyramid = make_pyramid(self.tower.conv1.out_channels, sync_bn)
        self.freeze()

    def init_weights(self) -> None:
        """Load the pretrained weights, if any (errors: :func:`denseclip_mm.clip.load_tower`)."""
        unused: tuple[str, ...] = ()
        if not self.with_embeddings:
            kept = len(self.tower.transformer.resblocks)
            total = self.config['vision_cfg'].get('layers', 12)
            unused = ('proj', 'ln_post.',
                      *(f'transformer.resblocks.{index}.' for index in range(kept, total)))
        self.load_pretrained(self.tower.grid_size, unused)

    def stages(self) -> list[list[nn.Module | nn.Parameter]]:
        """The patch embedding with its tokens and positions; each block; norm and projection."""
        tower = self.tower
        stem = [tower.conv1, tower.class_embedding, tower.positional_embedding, tower.ln_pre]
        projection = [[tower.ln_post, tower.proj]] if self.with_embeddings else []
        return [stem, *([block] for block in tower.transformer.resblocks), *projection]

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Feature maps of an image batch (B, 3, H, W), and the embedding pair."""
        tower = self.tower
        x = tower.conv1(x)
        size = x.shape[2:]
        x_BND = x.flatten(2).transpose(1, 2)
        token = tower.class_embedding.to(x_BND.dtype).expand(x_BND.shape[0], 1, -1)
        x_BND = torch.cat([token, x_BND], dim=1)
        positions = resize_position_table(tower.positional_embedding, tuple(size), tower.grid_size)
        x_BND = tower.ln_pre(tower.patch_dropout(x_BND + positions.to(x_BND.dtype)))
        before_last = len(tower.transformer.resblocks) - 2
        apart = self.with_embeddings and self.dense_embedding != 'attended'
        indices = sorted({*self.out_indices, before_last} if apart else self.out_indices)
        x_BND, taken = tower.transformer.forward_intermediates(x_BND, indices=indices)
        tokens = dict(zip(indices, taken, strict=True))
        # contiguous: on a channels-last map of frozen blocks, GroupNorm's backward crashes (CPU)
        maps = [scale(tokens[index][:, 1:].transpose(1, 2).unflatten(2, size).contiguous())
                for scale, index in zip(self.pyramid, self.out_indices, strict=True)]
        if not self.with_embeddings:
            return tuple(maps)
        mean_BD = tower._pool(x_BND)[0] if tower.pool_type == 'avg' else None
        if apart:
            cells_BND = _last_block(tower.transformer.resblocks[-1], tokens[before_last],
                                    self.dense_embedding, tuple(size))
            x_BND = torch.cat([x_BND[:, :1], cells_BND], dim=1)
        y_BNC = tower.ln_post(x_BND) @ tower.proj
        image_BC = y_BNC[:, 0] if mean_BD is None else mean_BD @ tower.proj
        return (*maps, (image_BC, y_BNC[:, 1:].transpose(1, 2).unflatten(2, size)))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        fit_position_table(
            state_dict, prefix + 'tower.positional_embedding', prefix + 'position_grid',
            self.tower.positional_embedding, self.tower.grid_size)
        super()._load_from_state_dict(state_dict, prefix, *args)
