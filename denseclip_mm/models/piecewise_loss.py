"""The loss of upsampled logits, a few rows of pixels at a time.

mmseg upsamples the K maps of a head to the image, and then compares: 150 maps of 512 x 512 are
157 MB an image, of which the loss and its gradient keep several copies. Here a few rows of pixels
are upsampled, compared and differentiated before the next ones; what remains is the gradient of the
K small maps. Nothing is computed twice, and the numbers are the same.

Shapes: B images, K classes, h, w size of the logits, H, W size of the labels, L losses.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmseg.models.decode_heads import FPNHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits at full size that are held at a time: on a CPU its cache decides, on a GPU the number of
# kernels (an H200 took 127 ms to launch those of 86 pieces, and 17 ms to run them).
_PIECE = dict(cpu=2**21, cuda=2**25)


class _LossInPieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BKhw: Tensor, labels_BHW: Tensor,
                criteria: list[Callable[[Tensor, Tensor], Tensor]], ignore_index: int,
                align_corners: bool, learning: bool) -> tuple[Tensor, Tensor]:
        """Losses (L,) and the number of pixels whose largest logit is that of their label."""
        count, classes = logits_BKhw.shape[:2]
        height, width = labels_BHW.shape[1:]
        mix_Hh, mix_Ww = (
            _mix(*sizes, align_corners, logits_BKhw.device)
            for sizes in zip(logits_BKhw.shape[2:], labels_BHW.shape[1:], strict=True))
        # The same on the CPU, to ask it for row numbers without waiting for the device.
        of_rows = _mix(logits_BKhw.shape[2], height, align_corners, torch.device('cpu')) != 0
        piece = _PIECE.get(logits_BKhw.device.type, _PIECE['cuda'])
        rows = max(1, piece // (count * classes * width))
        gradients = [torch.zeros_like(logits_BKhw, dtype=torch.float) for _ in criteria]
        values, right = [], 0
        for top in range(0, height, rows):
            labels = labels_BHW[:, top:top + rows]
            used = of_rows[top:top + rows].any(0).nonzero()
            part = (..., slice(int(used[0]), int(used[-1]) + 1), slice(None))
            with torch.set_grad_enabled(learning), \
                    torch.autocast(logits_BKhw.device.type, enabled=False):
                leaf = logits_BKhw[part].detach().float()
                if learning:
                    leaf.requires_grad_()
                upsampled = mix_Hh[top:top + rows, part[1]] @ leaf @ mix_Ww.T
                share = labels.shape[1] / height
                losses = [share * each(upsampled, labels) for each in criteria]
                for gradient, loss in zip(gradients, losses, strict=True) if learning else ():
                    gradient[part] += torch.autograd.grad(loss, leaf, retain_graph=True)[0]
            values.append(torch.stack(losses).detach())
            detached = upsampled.detach()
            judged = labels != ignore_index
            at_label = detached.gather(1, labels.where(judged, 0)[:, None])[:, 0]
            right = right + (judged & (detached.amax(1) == at_label)).sum()
        ctx.gradients = gradients
        ctx.dtype = logits_BKhw.dtype
        return sum(values), right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_losses: Tensor, of_right: Tensor) -> tuple[Tensor | None, ...]:
        gradient = sum(factor * each for factor, each in zip(of_losses, ctx.gradients, strict=True))
        return gradient.to(ctx.dtype), None, None, None, None, None


def _mix(small: int, large: int, align_corners: bool, device: torch.device) -> Tensor:
    """Bilinear upsampling of one axis as a matrix (large, small): every row mixes two rows."""
    return F.interpolate(torch.eye(small, device=device)[None, None], size=(large, small),
                         mode='bilinear', align_corners=align_corners)[0, 0]


def _is_mean_of_pixels(loss: nn.Module) -> bool:
    return (isinstance(loss, CrossEntropyLoss) and loss.reduction == 'mean'
            and not (loss.use_sigmoid or loss.use_mask or loss.avg_non_ignore)
            and loss.class_weight is None)


class PiecewiseLoss:
    """Mixin of mmseg's decode heads: the loss in pieces, where it is a plain mean over all pixels.

    That is mmseg's ``CrossEntropyLoss`` without class weights; heads with other losses or with a
    sampler compute as they always do.
    """

    @torch.compiler.disable
    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses and accuracy, as ``BaseDecodeHead.loss_by_feat`` names them."""
        criteria = (list(self.loss_decode) if isinstance(self.loss_decode, nn.ModuleList)
                    else [self.loss_decode])
        if self.sampler is not None or not all(map(_is_mean_of_pixels, criteria)):
            return super().loss_by_feat(seg_logits, batch_data_samples)
        labels_BHW = self._stack_batch_gt(batch_data_samples).squeeze(1)

        values, right = _LossInPieces.apply(
            seg_logits, labels_BHW,
            [partial(each, ignore_index=self.ignore_index) for each in criteria],
            self.ignore_index, self.align_corners,
            seg_logits.requires_grad and torch.is_grad_enabled())
        losses: dict[str, Tensor] = {}
        for each, value in zip(criteria, values, strict=True):
            losses[each.loss_name] = losses.get(each.loss_name, 0) + value
        judged = (labels_BHW != self.ignore_index).sum()
        return {**losses, 'acc_seg': 100 * right[None] / judged.clamp(min=1)}


class PiecewiseFPNHead(PiecewiseLoss, FPNHead):
    """mmseg's ``FPNHead`` with its loss in pieces (:class:`PiecewiseLoss`)."""
