"""A decoder with fixed classes and the score map, mixed.

Shapes: B images, K classes, D classes of the decoder, H, W size of its logits.
"""

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor
from torch.nn import functional as F


class EnsembleHead(BaseDecodeHead):
    """Mixes the probabilities of decoder and score map (FC-CLIP, Yu et al. 2023, section 3.3).

    The paper takes the geometric mean; this is the arithmetic one, which works with probabilities
    of 0: p = (1 - w) p of the decoder + w p of the score map, with one w for classes that had
    labels and another one for those that had none. Where the decoder has no such class, its
    probability is 0.

    Args:
        decode_head: the decoder, trained.
        takes_score_map: whether the decoder is given all inputs, or all but the last.
        columns: the decoder's class of each of the K, None where it has none.
        labelled: which of the K had labels.
        weights: w of labelled classes and of others, in [0, 1].
        tau: temperature of the score map, the last of the inputs.

    Raises:
        ValueError: if a weight is not in [0, 1].
    """

    def __init__(self, *, decode_head: BaseDecodeHead, takes_score_map: bool,
                 columns: Sequence[int | None], labelled: Sequence[bool],
                 weights: tuple[float, float], tau: float) -> None:
        if not all(0 <= weight <= 1 for weight in weights):
            raise ValueError(f'the weights {tuple(weights)} of the score map are not in [0, 1]')
        super().__init__(in_channels=len(columns), channels=len(columns),
                         num_classes=len(columns), out_channels=len(columns),
                         dropout_ratio=0, init_cfg=None,
                         align_corners=decode_head.align_corners)
        del self.conv_seg
        self.decode_head = decode_head
        self.takes_score_map = takes_score_map
        self.tau = tau
        known = [place for place, column in enumerate(columns) if column is not None]
        weight_K11 = torch.tensor([weights[0 if each else 1] for each in labelled])[:, None, None]
        self.register_buffer('weight_K11', weight_K11, persistent=False)
        self.register_buffer('known', torch.tensor(known, dtype=torch.long), persistent=False)
        self.register_buffer('columns', torch.tensor(
            [columns[place] for place in known], dtype=torch.long), persistent=False)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Log-probabilities (B, K, H, W) of the neck's outputs."""
        decoded = self.decode_head(inputs if self.takes_score_map else inputs[:-1]).softmax(1)
        logits = F.interpolate(inputs[-1] / self.tau, decoded.shape[2:], mode='bilinear',
                               align_corners=self.align_corners)
        mixed = self.weight_K11 * logits.softmax(1)
        decoded = decoded[:, self.columns] * (1 - self.weight_K11[self.known])
        mixed = mixed.index_add(1, self.known, decoded)
        return mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log()
