"""The auxiliary head on the score map."""

from typing import Any

from denseclip_mm.models.maps import checked_tau
from denseclip_mm.models.piecewise_loss import PiecewiseLoss

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor


class ScoreMapHead(PiecewiseLoss, BaseDecodeHead):
    """Takes the score map itself as logits: score map / tau (DenseCLIP, section 3.2, Eq. 2).

    It has no parameters. As an auxiliary head it is the published loss; as a decode head it
    segments by language alone.

    Args:
        num_classes: K, the channels of the score map.
        in_index: which of the neck's outputs is the score map.
        tau: temperature.
        loss_decode: config, or configs, of the loss.
        ignore_index: label without loss.
        sampler: config of a pixel sampler.
        align_corners: of the interpolation to the image's size.

    Raises:
        ValueError: if ``tau`` is not over 0.

    Examples:
        >>> import torch
        >>> head = ScoreMapHead(num_classes=3, tau=0.07)
        >>> head((torch.full((1, 3, 16, 16), 0.14), )).unique()
        tensor([2.])
    """

    def __init__(self, *, num_classes: int, in_index: int = -1, tau: float = 0.07,
                 loss_decode: dict[str, Any] | list[dict[str, Any]] | None = None,
                 ignore_index: int = 255, sampler: dict[str, Any] | None = None,
                 align_corners: bool = False) -> None:
        super().__init__(
            in_channels=num_classes, channels=num_classes, num_classes=num_classes,
            out_channels=num_classes, dropout_ratio=0, in_index=in_index, sampler=sampler,
            ignore_index=ignore_index,
            threshold=0.3 if num_classes == 1 else None,  # mmseg's default, without its warning
            loss_decode=loss_decode or dict(type='CrossEntropyLoss'),
            align_corners=align_corners, init_cfg=None)
        del self.conv_seg
        self.tau = checked_tau(tau)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits (B, K, H, W) of the neck's outputs.

        Raises:
            ValueError: if the score map has not ``num_classes`` channels.
        """
        score_map = self._transform_inputs(inputs)
        if score_map.shape[1] != self.num_classes:
            raise ValueError(
                f'the score map has {score_map.shape[1]} classes, this head num_classes='
                f'{self.num_classes}; set num_classes to the number of class_names, or in_index='
                f'{self.in_index} to -1, which is the score map')
        return score_map / self.tau
