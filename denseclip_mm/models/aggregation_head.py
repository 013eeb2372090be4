"""A decode head for any names: it sharpens every class's score map with the finer feature maps.

Its weights are shared by all classes, so it never knows how many there are, and answers names that
had no label as it answers those that had. Cost aggregation (CAT-Seg, Cho et al., CVPR 2024; SED,
Xie et al., CVPR 2024) without attention, and a convex upsampling (RAFT, Teed and Deng, ECCV 2020).

Shapes: B images, K classes, N = B * K, D width, G channels of the guide, h, w size of the score
map, s cells of the guide to a cell of the score map, H = h * s, W = w * s.
"""

from typing import Any

from denseclip_mm.models.piecewise_loss import PiecewiseLoss

import torch
from mmseg.models.decode_heads import FPNHead
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK = 64  # classes that are aggregated at a time in evaluation


class AggregationLayer(nn.Module):
    """Looks at the surroundings of every cell in the map of one class, gated by the guide.

    Args:
        width: D.
        guide_channels: G.
    """

    def __init__(self, *, width: int, guide_channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.guide = nn.Conv2d(guide_channels, 2 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x_NDhw: Tensor, guide_BGhw: Tensor) -> Tensor:
        """Refine (B * K, D, h, w); the guide is the same for all classes."""
        gate, bias = self.guide(guide_BGhw)[:, None].chunk(2, dim=2)
        y_BKDhw = self.conv(self.norm(x_NDhw)).unflatten(0, (guide_BGhw.shape[0], -1))
        y_BKDhw = F.gelu(y_BKDhw * (1 + gate) + bias)
        return x_NDhw + self.proj(y_BKDhw.flatten(0, 1))


class CostAggregationHead(PiecewiseLoss, FPNHead):
    """The score map, aggregated in its own cells and upsampled along the edges of a guide.

    The guide is the trunk of mmseg's ``FPNHead``, which this is in every other respect, and has no
    score map in it. The logits are those of :class:`ScoreMapHead` at first: the exit of the
    aggregation starts from zero.

    Args:
        score_map_stride: pixels of a cell of the score map, which is the last of the neck's
            outputs; a multiple of ``feature_strides[0]``.
        tau: temperature of the score map.
        width: D.
        num_layers: of the aggregation.
        fpn_head: arguments of ``FPNHead``: ``feature_strides``, ``in_channels``, ``in_index``,
            ``channels``, ``num_classes``, losses and so on. No weight depends on ``num_classes``.

    Raises:
        ValueError: if ``score_map_stride`` is no multiple of ``feature_strides[0]``.
    """

    def __init__(self, *, score_map_stride: int, tau: float = 0.07, width: int = 16,
                 num_layers: int = 2, **fpn_head: Any) -> None:
        super().__init__(**fpn_head, init_cfg=None)
        del self.conv_seg
        self.scale, rest = divmod(score_map_stride, self.feature_strides[0])
        if rest or not self.scale:
            raise ValueError(f'score_map_stride={score_map_stride} is no multiple of '
                             f'feature_strides[0]={self.feature_strides[0]}')
        self.tau = tau
        self.entry = nn.Conv2d(2, width, 3, padding=1)
        self.layers = nn.ModuleList(
            AggregationLayer(width=width, guide_channels=self.channels) for _ in range(num_layers))
        self.exit = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)
        self.mix = nn.Conv2d(self.channels, 9, 1)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """The features as they are: the score map is the classifier."""
        return self.dropout(feat)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits (B, K, H, W) of the neck's outputs, the last of which is the score map."""
        score_BKhw = inputs[-1]
        h, w = score_BKhw.shape[2:]
        guide_BGHW = F.interpolate(super().forward(inputs), size=(h * self.scale, w * self.scale),
                                   mode='bilinear', align_corners=False)
        logits_BKhw = self.aggregate(score_BKhw / self.tau,
                                     F.avg_pool2d(guide_BGHW, self.scale))
        return convex_upsample(logits_BKhw, self.mix(guide_BGHW).softmax(1), self.scale)

    def aggregate(self, logits_BKhw: Tensor, guide_BGhw: Tensor) -> Tensor:
        """Refine the logits of every class in the cells of the score map."""
        pair_BK2hw = torch.stack([logits_BKhw, logits_BKhw.log_softmax(1)], dim=2)
        chunks = (pair_BK2hw, ) if self.training else pair_BK2hw.split(_CHUNK, dim=1)
        return logits_BKhw + torch.cat([self._residual(each, guide_BGhw) for each in chunks], 1)

    def _residual(self, pair_BK2hw: Tensor, guide_BGhw: Tensor) -> Tensor:
        x_NDhw = self.entry(pair_BK2hw.flatten(0, 1))
        for layer in self.layers:
            x_NDhw = layer(x_NDhw, guide_BGhw)
        return self.exit(x_NDhw).view(*pair_BK2hw.shape[:2], *pair_BK2hw.shape[3:])


def convex_upsample(x_BKhw: Tensor, mix_B9HW: Tensor, scale: int) -> Tensor:
    """Every fine cell is a mix of the 3 x 3 coarse cells around it (RAFT, section 3.3).

    Args:
        x_BKhw: coarse maps; cells beyond the border are those at it.
        mix_B9HW: the shares of the nine, row by row, the same for all K.
        scale: s.

    Returns:
        (B, K, H, W).
    """
    b, k, h, w = x_BKhw.shape
    padded = F.pad(x_BKhw, (1, 1, 1, 1), mode='replicate')
    near_BKhw9 = torch.stack([padded[..., row:row + h, column:column + w]
                              for row in range(3) for column in range(3)], dim=4)
    near_BhwK9 = near_BKhw9.permute(0, 2, 3, 1, 4)
    mix_Bhw9S = mix_B9HW.view(b, 9, h, scale, w, scale).permute(0, 2, 4, 1, 3, 5).flatten(4)
    fine_BhwKss = (near_BhwK9 @ mix_Bhw9S).unflatten(4, (scale, scale))
    return fine_BhwKss.permute(0, 3, 1, 4, 2, 5).reshape(b, k, h * scale, w * scale)
