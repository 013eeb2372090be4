"""Optimal transport between the cells of an image and the prompts of a class (PLOT).

Shapes: B images, K classes, S prompts of all of them, N = H * W cells.
"""

import torch
from torch import Tensor

_EPSILON = 0.1  # of the entropy, as in PLOT
_ROUNDS = 20  # for cosines of prompts the plan is exact to 1e-4 by then


def transport_shares(score_BSHW: Tensor, class_of_prompt: Tensor, num_classes: int) -> Tensor:
    """How much each prompt of a class counts in each cell.

    PLOT (Chen et al. 2023, section 3.2) moves the cells of an image, all of the same weight, to the
    prompts of a class, all of the same weight, at a cost of 1 - cosine and with an entropy of 0.1,
    by Sinkhorn's iteration (Cuturi 2013): every cell goes to the prompts that it is like, and every
    prompt has to take its part of the image. What PLOT sums up to a score of the image is a score
    of each cell here: the mean of the prompts, weighed by where the cell goes. As in PLOT the plan
    is taken as it is, without a gradient.

    Args:
        score_BSHW: cosines.
        class_of_prompt: (S,) the class of each.
        num_classes: K.

    Returns:
        (B, S, H, W); those of a class sum up to 1 in every cell, and to the same for all its
        prompts over the cells.

    Examples:
        >>> score_BSHW = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.3, 0.1]]).view(1, 2, 1, 3)
        >>> transport_shares(score_BSHW, torch.tensor([0, 0]), 1)[0, :, 0]
        tensor([[0.33, 0.17, 0.99],
                [0.67, 0.83, 0.01]])
    """
    def of_class(x_BSN: Tensor) -> Tensor:
        """The sum over the prompts of a class, for each of them."""
        sums_BKN = x_BSN.new_zeros((x_BSN.shape[0], num_classes, x_BSN.shape[2]))
        return sums_BKN.index_add(1, class_of_prompt, x_BSN)[:, class_of_prompt]

    kernel_BSN = (score_BSHW.detach().float().flatten(2) / _EPSILON).exp()
    weight_BS1 = torch.ones_like(kernel_BSN[:, :, :1])
    count_BS1 = of_class(weight_BS1)
    for _ in range(_ROUNDS):
        shares_BSN = weight_BS1 * kernel_BSN
        shares_BSN = shares_BSN / of_class(shares_BSN)
        weight_BS1 = weight_BS1 / (count_BS1 * shares_BSN.mean(2, keepdim=True))
    return shares_BSN.to(score_BSHW.dtype).view_as(score_BSHW)
