"""Feature maps on their way into the neck."""

from collections.abc import Sequence

import torch
from torch import Tensor


def concatenate(maps: Sequence[Tensor], score_map: Tensor, index: int | None,
                tau: float) -> list[Tensor]:
    """The maps, one of them with score map / tau behind its channels.

    Args:
        maps: (B, C_i, H_i, W_i).
        score_map: (B, K, H, W).
        index: of the map; None for none.
        tau: temperature.

    Raises:
        ValueError: if there is no such map, or it is of another size than the score map; says which
            are of its size.
    """
    if index is None:
        return list(maps)
    if index not in range(len(maps)):
        raise ValueError(f'score_map_index={index} is no index of the {len(maps)} feature maps')
    size, cells = tuple(score_map.shape[2:]), tuple(maps[index].shape[2:])
    if cells != size:
        fitting = [place for place, fmap in enumerate(maps) if fmap.shape[2:] == size]
        raise ValueError(f'score_map_index={index} is a map of {cells} cells, but the dense '
                         f'embedding has {size}; use '
                         f'{fitting or "a backbone with a map of that size"}')
    joined = torch.cat([maps[index], score_map / tau], dim=1)
    return [*maps[:index], joined, *maps[index + 1:]]


def join_unused(used: Tensor, *unused: Tensor) -> Tensor:
    """Give what no loss depends on a gradient of zero, by a sum over nothing.

    ``DistributedDataParallel`` wants a gradient of every parameter: of the attention pool's where
    the text does not look at the image, of a ViT's pyramid where there is no wrapped neck.

    Args:
        used: what a loss depends on.
        unused: outputs of the backbone that none depends on.

    Returns:
        ``used``, the same numbers.
    """
    for each in unused:
        if each.requires_grad:
            used = used + each[:0].sum()
    return used
