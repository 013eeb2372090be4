"""Class weights that get along with ignored pixels."""

from collections.abc import Sequence

import torch
from mmseg.structures.sampler import BasePixelSampler
from torch import Tensor


class ClassWeightSampler(BasePixelSampler):
    """Weighs pixels by their class, as the sampler of a head.

    The ``class_weight`` of mmseg's ``CrossEntropyLoss`` fails on labels that are ignored (an
    IndexError at 255), and this does not.

    Args:
        class_weight: the weight of each class.
        context: the head, which mmseg hands over.

    Raises:
        ValueError: if there are not as many weights as the head has classes.

    Examples:
        >>> from denseclip_mm.models import ScoreMapHead
        >>> weigh = dict(type='ClassWeightSampler', class_weight=[1.0, 0.1])
        >>> head = ScoreMapHead(num_classes=2, sampler=weigh)
        >>> logits, labels = torch.zeros(1, 2, 1, 3), torch.tensor([[[[0, 1, 255]]]])
        >>> head.sampler.sample(logits, labels)
        tensor([[[2.7273, 0.2727, 0.0000]]])
    """

    def __init__(self, *, class_weight: Sequence[float], context: torch.nn.Module) -> None:
        super().__init__()
        if len(class_weight) != context.num_classes:
            raise ValueError(f'class_weight has {len(class_weight)} entries, the head num_classes='
                             f'{context.num_classes}')
        self.class_weight = list(class_weight)
        self.ignore_index = context.ignore_index

    def sample(self, seg_logit: Tensor, seg_label: Tensor) -> Tensor:
        """Weights (B, H, W) of the labels (B, 1, H, W), of mean 1; ignored pixels weigh nothing."""
        labels = seg_label.squeeze(1)
        counted = labels != self.ignore_index
        table = seg_logit.new_tensor(self.class_weight)
        weights = table[labels.masked_fill(~counted, 0)] * counted
        return weights / weights.mean().clamp(min=torch.finfo(weights.dtype).eps)
