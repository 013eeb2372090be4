"""Any visual backbone: an mmseg or timm network, brought into CLIP's embedding space."""

from typing import Any

from denseclip_mm.backbones.pool import DenseAttentionPool
from denseclip_mm.backbones.tower import size_2d

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


class AlignedBackbone(BaseModule):
    """A stock backbone and a dense attention pool on its last map (DenseCLIP, section 3.4).

    The pool starts from random weights and learns, with the pixel-text loss, to speak the language
    of the text tower.

    Args:
        backbone: config of a backbone known to mmseg (``TIMMBackbone`` for timm's).
        embed_dim: C, which has to be the text tower's.
        image_size: the training crop, one number or (height, width), whose grid the pool's position
            table is for.
        head_channels: channels of an attention head of the pool.

    Raises:
        ValueError: if the last map's channels are no multiple of ``head_channels``.

    Examples:
        >>> stock = dict(type='ResNet', depth=18)
        >>> backbone = AlignedBackbone(backbone=stock, embed_dim=1024, image_size=64)
        >>> *maps, (image, dense) = backbone(torch.rand(2, 3, 64, 64))
        >>> len(maps), image.shape, dense.shape
        (4, torch.Size([2, 1024]), torch.Size([2, 1024, 2, 2]))
    """

    def __init__(self, *, backbone: dict[str, Any], embed_dim: int,
                 image_size: int | tuple[int, int] = 512, head_channels: int = 64) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.embed_dim = embed_dim
        self.backbone.eval()
        with torch.no_grad():  # no backbone of mmseg tells its channels and strides in one way
            last = self.backbone(torch.zeros(1, 3, *size_2d(image_size)))[-1]
        self.backbone.train()
        channels = last.shape[1]
        if channels % head_channels:
            raise ValueError(f'the last map has {channels} channels, no multiple of '
                             f'head_channels={head_channels}; choose a divisor')
        self.pool = DenseAttentionPool(in_channels=channels, embed_dim=embed_dim,
                                       num_heads=channels // head_channels,
                                       grid=tuple(last.shape[2:]))

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Feature maps of an image batch (B, 3, H, W), and the embedding pair."""
        maps = self.backbone(x)
        return (*maps, self.pool(maps[-1]))
