"""CLIP's attention pool, dense: the embedding of every cell and of the whole image."""

from typing import Any

from denseclip_mm.backbones.dense_attention import check_dense_embedding, value_value
from denseclip_mm.positions import (
    crop_position_table,
    fit_position_table,
    resize_position_table,
)

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F


class DenseAttentionPool(AttentionPool2d):
    """Embeds every cell where CLIP embeds the mean of the map alone.

    The mean of the map and its cells, 1 + H * W tokens with positions, are attended to by the mean,
    as in CLIP, which gives the global embedding. The dense embedding is one of two:

    - ``'attended'``: cells attend as the mean does (DenseCLIP, Rao et al. 2022, section 3.2);
    - ``'value'``: cells pass the value and the output projection alone, without attention and
      without positions (MaskCLIP, Zhou et al. 2022, section 3.2), which keeps them apart in a
      network that was never trained on pixels.

    Args:
        in_channels: channels of the feature map.
        embed_dim: C, channels of the embeddings.
        num_heads: attention heads.
        grid: height and width of the map at the training crop.
        dense_embedding: ``'attended'``, ``'value'`` or ``'value-value'``.
        positions: what maps of another size do with the position table: ``'interpolated'``, or
            ``'cropped'`` to its top left part (DenseCLIP's detectors), which larger maps enlarge.

    Raises:
        ValueError: if ``dense_embedding`` or ``positions`` is none of them.

    Examples:
        >>> pool = DenseAttentionPool(in_channels=64, embed_dim=32, num_heads=2, grid=(4, 4))
        >>> image, dense = pool(torch.rand(2, 64, 4, 6))  # another size than the grid's
        >>> image.shape, dense.shape
        (torch.Size([2, 32]), torch.Size([2, 32, 4, 6]))
    """

    def __init__(self, *, in_channels: int, embed_dim: int, num_heads: int,
                 grid: tuple[int, int], dense_embedding: str = 'attended',
                 positions: str = 'interpolated') -> None:
        super().__init__(1, in_channels, num_heads, embed_dim)
        check_dense_embedding(dense_embedding, ('attended', 'value', 'value-value'))
        if positions not in ('interpolated', 'cropped'):
            raise ValueError(f"positions must be 'interpolated' or 'cropped', got {positions!r}")
        self.dense_embedding = dense_embedding
        self.positions = positions
        self.grid = grid
        self.register_buffer('position_grid', torch.tensor(grid))  # for whoever loads the table
        rows = 1 + grid[0] * grid[1]
        self.positional_embedding = torch.nn.Parameter(
            torch.randn(rows, in_channels) / in_channels**0.5)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            torch.nn.init.normal_(layer.weight, std=in_channels**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool a feature map.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            The global embedding (B, C) and the dense embedding (B, C, H, W).
        """
        size, cells_BND = x.shape[2:], x.flatten(2).mT
        x_BND = torch.cat([cells_BND.mean(1, keepdim=True), cells_BND], dim=1)
        fit = resize_position_table if self.positions == 'interpolated' else crop_position_table
        positions = fit(self.positional_embedding, tuple(size), self.grid)
        x_BND = x_BND + positions.to(x_BND.dtype)
        queries = x_BND if self.dense_embedding == 'attended' else x_BND[:, :1]
        # By matrix products: where a CPU computes no bfloat16 itself, oneDNN's convolutions of few
        # cells are wrong by a quarter. Rows in order, as CUDA's fused attention takes a single one.
        q, k, v = (self._heads(layer(tokens)).clone(memory_format=torch.contiguous_format)
                   for layer, tokens in ((self.q_proj, queries), (self.k_proj, x_BND),
                                         (self.v_proj, x_BND)))
        y_BNC = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        dense_BNC = (y_BNC[:, 1:] if self.dense_embedding == 'attended' else
                     self.c_proj(self._values(cells_BND)))
        return y_BNC[:, 0], dense_BNC.mT.unflatten(2, size)

    def _heads(self, x_BND: Tensor) -> Tensor:
        """The channels of each head: (B, heads, N, D / heads)."""
        return x_BND.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def _values(self, cells_BND: Tensor) -> Tensor:
        """Values of the cells, without positions."""
        values_BND = self.v_proj(cells_BND)
        if self.dense_embedding == 'value':
            return values_BND
        return value_value(self._heads(values_BND)).transpose(1, 2).flatten(2)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        fit_position_table(state_dict, prefix + 'positional_embedding', prefix + 'position_grid',
                           self.positional_embedding, self.grid)
        super()._load_from_state_dict(state_dict, prefix, *args)
