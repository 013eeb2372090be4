"""Outputs of a backbone that a model does not ask for."""

from torch import Tensor


def join_unused(used: Tensor, *unused: Tensor) -> Tensor:
    """Give what no loss depends on a gradient of zero, by a sum over nothing.

    ``DistributedDataParallel`` wants a gradient of every parameter: of the attention pool's where
    the text does not look at the image, of a ViT's pyramid where there is no wrapped neck.

    Args:
        used: what a loss depends on.
        unused: what none depends on.

    Returns:
        ``used``, the same numbers.
    """
    for each in unused:
        if each.requires_grad:
            used = used + each[:0].sum()
    return used
