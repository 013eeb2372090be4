"""A decode head for any names: it sharpens the score map of every class with finer feature maps.

All classes share its weights, so it never knows how many there are, and answers names that had no
label as it answers those that had. It is a small relative of cost aggregation (CAT-Seg, Cho et al.,
CVPR 2024; SED, Xie et al., CVPR 2024) with a convex upsampling (RAFT, Teed and Deng, ECCV 2020).

Shapes: B images, K classes, N = B * K, D width, G channels of the guide, h, w size of the score
map, s cells of the guide along a cell of the score map, H = h * s, W = w * s.
"""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.models.maps import checked_tau
from denseclip_mm.models.piecewise_loss import PiecewiseLoss

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FPNHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional as F

_CHUNK = 64  # classes that are aggregated at a time when nothing is learned
_ABSENT = -1e4  # logit of a class that sits out


class AggregationLayer(nn.Module):
    """Looks around every cell in the map of one class, gated by the guide.

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
        """Refine (N, D, h, w); all classes have the same guide."""
        gate, bias = self.guide(guide_BGhw)[:, None].chunk(2, dim=2)
        y_BKDhw = self.conv(self.norm(x_NDhw)).unflatten(0, (guide_BGhw.shape[0], -1))
        y_BKDhw = F.gelu(y_BKDhw * (1 + gate) + bias)
        return x_NDhw + self.proj(y_BKDhw.flatten(0, 1))


class CostAggregationHead(PiecewiseLoss, FPNHead):
    """The score map, aggregated in its own cells and upsampled along the edges of a guide.

    It takes the neck's maps and the score map, the last of its outputs, which is in no map
    (``score_map_index=None`` of :class:`PixelTextNeck`). The guide is the trunk of mmseg's
    ``FPNHead``, so new names do not change it. Exit and mix start from zero: the logits are at
    first those of :class:`ScoreMapHead`, bilinearly upsampled.

    In training a random share of the classes sits out of every step, with their pixels, so that the
    head meets many vocabularies and does not learn one by heart.

    Args:
        num_classes: K; no weight depends on it.
        in_channels, in_index, feature_strides: of the maps, fine to coarse.
        channels: G.
        score_map_stride: pixels of a cell of the score map, ``feature_strides[0]`` times a number.
        tau: temperature of the score map.
        width: D.
        num_layers: of the aggregation.
        class_dropout: the largest share of classes that sit out; from none to this by chance.
        dropout_ratio: of the guide.
        norm_cfg, loss_decode, ignore_index, sampler, align_corners: as in mmseg's heads.

    Raises:
        ValueError: if ``score_map_stride`` is no multiple of ``feature_strides[0]``,
            ``class_dropout`` is not in [0, 1), or ``tau`` not over 0.

    Examples:
        >>> head = CostAggregationHead(num_classes=30, in_channels=[8], in_index=[0], channels=8,
        ...                            feature_strides=[4], score_map_stride=16)
        >>> fmap, score_map = torch.rand(1, 8, 32, 32), torch.rand(1, 5, 8, 8)  # five names
        >>> head((fmap, score_map)).shape
        torch.Size([1, 5, 32, 32])
    """

    def __init__(self, *, num_classes: int, in_channels: Sequence[int], in_index: Sequence[int],
                 feature_strides: Sequence[int], channels: int, score_map_stride: int,
                 tau: float = 0.07, width: int = 16, num_layers: int = 2,
                 class_dropout: float = 0.7, dropout_ratio: float = 0.1,
                 norm_cfg: dict[str, Any] | None = None,
                 loss_decode: dict[str, Any] | list[dict[str, Any]] | None = None,
                 ignore_index: int = 255, sampler: dict[str, Any] | None = None,
                 align_corners: bool = False) -> None:
        super().__init__(
            feature_strides, num_classes=num_classes, in_channels=in_channels, in_index=in_index,
            channels=channels, dropout_ratio=dropout_ratio, norm_cfg=norm_cfg,
            loss_decode=loss_decode or dict(type='CrossEntropyLoss'), ignore_index=ignore_index,
            sampler=sampler, align_corners=align_corners, init_cfg=None)
        del self.conv_seg
        self.scale, rest = divmod(score_map_stride, feature_strides[0])
        if rest or not self.scale:
            raise ValueError(f'score_map_stride={score_map_stride} is no multiple of '
                             f'feature_strides[0]={feature_strides[0]}')
        if not 0 <= class_dropout < 1:
            raise ValueError(f'class_dropout={class_dropout} is no share; 0 leaves none out')
        self.tau = checked_tau(tau)
        self.class_dropout = class_dropout
        self.entry = nn.Conv2d(2, width, 3, padding=1)
        self.layers = nn.ModuleList(
            AggregationLayer(width=width, guide_channels=channels) for _ in range(num_layers))
        self.exit = nn.Conv2d(width, 1, 1)
        self.mix = nn.Conv2d(channels, 9, 1)
        for parameter in (*self.exit.parameters(), *self.mix.parameters()):
            nn.init.zeros_(parameter)
        self.register_buffer('bilinear_9ss', _bilinear(self.scale), persistent=False)

    def loss(self, inputs: tuple[Tensor, ...], batch_data_samples: list[SegDataSample],
             train_cfg: dict[str, Any]) -> dict[str, Tensor]:
        """Losses as mmseg's heads have them, over the classes of this step."""
        if not self.class_dropout:
            return super().loss(inputs, batch_data_samples, train_cfg)
        *maps, score_map = inputs
        count = score_map.shape[1]
        share = 1 - self.class_dropout * float(torch.rand(()))
        kept = torch.randperm(count)[:max(min(2, count), round(share * count))].sort()[0]
        some = self.forward((*maps, score_map[:, kept.to(score_map.device)]))
        logits = some.new_full((len(some), count, *some.shape[2:]), _ABSENT)
        logits[:, kept.to(some.device)] = some
        out = torch.ones(count, dtype=torch.bool).index_fill(0, kept, False)
        return self.loss_by_feat(
            logits, [_ignore(each, out, self.ignore_index) for each in batch_data_samples])

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits (B, K, H, W) of the neck's maps and the score map (B, K, h, w).

        Raises:
            ValueError: if the score map is not of ``score_map_stride``.
        """
        score_BKhw, s = inputs[-1], self.scale
        h, w = score_BKhw.shape[2:]
        guide_BGHW = super().forward(inputs)
        if abs(guide_BGHW.shape[2] - h * s) >= s or abs(guide_BGHW.shape[3] - w * s) >= s:
            raise ValueError(f'the score map has {h} x {w} cells and the finest map '
                             f'{guide_BGHW.shape[2]} x {guide_BGHW.shape[3]}, which is not {s} '
                             'times as many; set score_map_stride')
        guide_BGHW = F.interpolate(guide_BGHW, (h * s, w * s), mode='bilinear')
        logits_BKhw = self.aggregate(score_BKhw / self.tau, F.avg_pool2d(guide_BGHW, s))
        mix_B9HW = self.mix(guide_BGHW) + self.bilinear_9ss.log().tile(1, h, w)
        return convex_upsample(logits_BKhw, mix_B9HW.softmax(1), s)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """The features of the trunk as they are: the score map is the classifier."""
        return feat if self.dropout is None else self.dropout(feat)

    def aggregate(self, logits_BKhw: Tensor, guide_BGhw: Tensor) -> Tensor:
        """Refine the logits of every class in the cells of the score map."""
        pair_BK2hw = torch.stack([logits_BKhw, logits_BKhw.log_softmax(1)], dim=2)
        chunks = (pair_BK2hw, ) if torch.is_grad_enabled() else pair_BK2hw.split(_CHUNK, dim=1)
        return logits_BKhw + torch.cat([self._residual(each, guide_BGhw) for each in chunks], 1)

    def _residual(self, pair_BK2hw: Tensor, guide_BGhw: Tensor) -> Tensor:
        x_NDhw = self.entry(pair_BK2hw.flatten(0, 1))
        for layer in self.layers:
            x_NDhw = layer(x_NDhw, guide_BGhw)
        return self.exit(x_NDhw).squeeze(1).unflatten(0, pair_BK2hw.shape[:2])


def convex_upsample(x_BKhw: Tensor, mix_B9HW: Tensor, scale: int) -> Tensor:
    """Every fine cell is a mix of the 3 x 3 coarse cells around it (RAFT, section 3.3).

    Args:
        x_BKhw: coarse maps; cells beyond the border are those at it.
        mix_B9HW: the shares of the nine, row by row, the same for all K.
        scale: s.

    Returns:
        (B, K, H, W).
    """
    h, w = x_BKhw.shape[2:]
    padded = F.pad(x_BKhw, (1, 1, 1, 1), mode='replicate')
    near_BhwK9 = torch.stack([padded[:, :, row:row + h, column:column + w]
                              for row in range(3) for column in range(3)], 4).permute(0, 2, 3, 1, 4)
    mix_B9hsws = mix_B9HW.unflatten(3, (w, scale)).unflatten(2, (h, scale))
    fine_BhwKS = near_BhwK9 @ mix_B9hsws.permute(0, 2, 4, 1, 3, 5).flatten(4)
    fine_BKhsws = fine_BhwKS.unflatten(4, (scale, scale)).permute(0, 3, 1, 4, 2, 5)
    return fine_BKhsws.flatten(4).flatten(2, 3)


def _bilinear(scale: int) -> Tensor:
    """The mix (9, s, s) of bilinear upsampling; a little of each, so that all can be learned."""
    nine = F.interpolate(torch.eye(9).view(9, 1, 3, 3), scale_factor=scale, mode='bilinear')
    return nine[:, 0, scale:2 * scale, scale:2 * scale].clamp(min=0.02)


def _ignore(sample: SegDataSample, classes_K: Tensor, ignore_index: int) -> SegDataSample:
    """The labels of a sample without those of some classes."""
    labels = sample.gt_sem_seg.data
    known = labels < len(classes_K)
    left_out = known & classes_K.to(labels.device)[labels.where(known, labels.new_zeros(()))]
    return SegDataSample(gt_sem_seg=PixelData(data=labels.masked_fill(left_out, ignore_index)))
