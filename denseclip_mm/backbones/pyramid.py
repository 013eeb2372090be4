"""Four maps of different sizes from a vision transformer, whose blocks all have one size."""

from collections.abc import Sequence
from typing import Any

from torch import nn


def check_out_indices(out_indices: Sequence[int] | None, depth: int,
                      model: str | dict[str, Any]) -> list[int]:
    """The four blocks after which maps are taken, in their order.

    By default they lie at a third, a half, two thirds and the end of the network, as DenseCLIP
    has them: after the blocks 3, 5, 7 and 11 of 12, and 7, 11, 15 and 23 of 24.

    Args:
        out_indices: blocks, counted from 0; None for the default.
        depth: number of blocks.
        model: whose blocks they are, for the error message.

    Raises:
        ValueError: if they are not four of the blocks.

    Examples:
        >>> check_out_indices(None, 12, 'ViT-B-16'), check_out_indices(None, 24, 'ViT-L-14')
        ([3, 5, 7, 11], [7, 11, 15, 23])
    """
    if out_indices is None:
        out_indices = [round(depth * part) - 1 for part in (1 / 3, 1 / 2, 2 / 3, 1)]
    if len(out_indices) != 4 or len(set(out_indices) & set(range(depth))) != 4:
        raise ValueError(f'out_indices={tuple(out_indices)}: four of the blocks 0 to {depth - 1} '
                         f'of {model!r} are needed')
    return sorted(out_indices)


def make_pyramid(width: int, sync_bn: bool) -> nn.ModuleList:
    """What brings four maps of one size to 4, 2, 1 and 1/2 times it (DenseCLIP, section 4.1).

    Args:
        width: channels of the maps.
        sync_bn: whether the batch norm of the finest map is synchronised between processes.
    """
    norm = nn.SyncBatchNorm if sync_bn else nn.BatchNorm2d
    return nn.ModuleList([
        nn.Sequential(nn.GroupNorm(1, width), nn.ConvTranspose2d(width, width, 2, 2),
                      norm(width), nn.GELU(), nn.ConvTranspose2d(width, width, 2, 2)),
        nn.Sequential(nn.GroupNorm(1, width), nn.ConvTranspose2d(width, width, 2, 2)),
        nn.Sequential(nn.GroupNorm(1, width)),
        nn.Sequential(nn.GroupNorm(1, width), nn.MaxPool2d(2)),
    ])
