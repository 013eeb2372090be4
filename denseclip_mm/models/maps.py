"""Feature maps on their way into the neck."""

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor


def checked_tau(tau: float) -> float:
    """The temperature that a score map is divided by.

    Raises:
        ValueError: if it is not over 0 and finite.
    """
    if not 0 < tau < inf:
        raise ValueError(f'tau={tau} is no temperature, which is over 0; DenseCLIP has 0.07')
    return tau


def widen(neck: dict[str, Any], index: int | None, num_classes: int) -> dict[str, Any]:
    """The config of a neck that takes the score maps of K classes behind one of its maps.

    Args:
        neck: its config without them.
        index: of the map; None for none.
        num_classes: K.

    Raises:
        ValueError: if ``in_channels`` are not those of several maps, or have no such index.

    Examples:
        >>> widen(dict(type='FPN', in_channels=[256, 512]), 1, 150)
        {'type': 'FPN', 'in_channels': [256, 662]}
    """
    channels = neck.get('in_channels')
    if not isinstance(channels, list | tuple):
        raise ValueError(f"the wrapped neck {neck.get('type')} has in_channels={channels}; it has "
                         "to be one that takes all maps of the backbone, with a list of channels")
    channels = list(channels)
    if index is not None:
        if index not in range(len(channels)):
            raise ValueError(f"score_map_index={index} is no index of the wrapped neck's "
                             f'in_channels={channels}')
        channels[index] += num_classes
    return {**neck, 'in_channels': channels}


def concatenate(maps: Sequence[Tensor], score_map: Tensor, index: int | None,
                tau: float, taken: int | None = None) -> list[Tensor]:
    """The maps, one of them with score map / tau behind its channels.

    Args:
        maps: (B, C_i, H_i, W_i).
        score_map: (B, K, H, W).
        index: of the map; None for none.
        tau: temperature.
        taken: how many maps the neck takes; None for any number.

    Raises:
        ValueError: if these are not as many, there is no such map, or it is of another size than
            the score map; says which are of its size.
    """
    if taken not in (None, len(maps)):
        raise ValueError(f'the backbone gives {len(maps)} maps, and in_channels of the wrapped '
                         f'neck has {taken}; write the channels of all {len(maps)}')
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
