"""Position tables of image towers, for other grids than they were trained at."""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_position_table(table: Tensor, grid: tuple[int, int],
                          source: tuple[int, int] | None = None) -> Tensor:
    """Resize the grid part of a position table bilinearly, as DenseCLIP does.

    Args:
        table: (1 + source height * source width, C), the class (or mean) token first.
        grid: height and width to resize to.
        source: height and width of the table; None for a square one.

    Returns:
        (1 + grid height * grid width, C).

    Raises:
        ValueError: if the source is not given and the table is not square.

    Examples:
        >>> resize_position_table(torch.rand(1 + 7 * 7, 2048), (16, 16)).shape
        torch.Size([257, 2048])
        >>> resize_position_table(torch.rand(1 + 4 * 16, 64), (8, 32), source=(4, 16)).shape
        torch.Size([257, 64])
    """
    if source is None:
        side = round((len(table) - 1)**0.5)
        source = (side, side)
    if source[0] * source[1] != len(table) - 1:
        raise ValueError(f'a position table of {len(table)} rows is not 1 + a square grid')
    if source == grid:
        return table
    cells = table[1:].reshape(1, *source, -1).permute(0, 3, 1, 2)
    cells = F.interpolate(cells, size=grid, mode='bilinear', align_corners=False)
    return torch.cat([table[:1], cells.flatten(2)[0].T])


def crop_position_table(table: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The top left part of a position table, as DenseCLIP's detectors take it.

    Args:
        table: (1 + grid height * grid width, C), the class (or mean) token first.
        size: height and width to cut out; where it is larger than the grid, the table is first
            enlarged bilinearly, along that side alone.
        grid: height and width of the table.

    Returns:
        (1 + size height * size width, C).

    Examples:
        >>> table = torch.arange(1. + 3 * 4)[:, None]  # rows 1 2 3 4, 5 6 7 8, 9 10 11 12
        >>> crop_position_table(table, (2, 3), (3, 4)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0]
    """
    whole = max(grid[0], size[0]), max(grid[1], size[1])
    table = resize_position_table(table, whole, grid)
    cells = table[1:].unflatten(0, whole)[:size[0], :size[1]]
    return torch.cat([table[:1], cells.flatten(0, 1)])


def fit_position_table(state_dict: dict[str, Any], key: str, grid_key: str, table: Tensor,
                       grid: tuple[int, int]) -> None:
    """Resize a checkpoint's position table to the model's grid, before it is loaded.

    Checkpoints of this package say their grid beside the table; one that does not is of CLIP or of
    the published code, whose grids are square.

    Args:
        state_dict: of the checkpoint; changed.
        key: of the position table in it.
        grid_key: of the table's height and width in it.
        table: the model's own position table.
        grid: height and width of it.

    Raises:
        ValueError: if the checkpoint's grid does not go with its table, or cannot be told.

    Examples:
        >>> checkpoint = dict(table=torch.rand(1 + 8 * 8, 64))
        >>> fit_position_table(checkpoint, 'table', 'grid', torch.empty(1 + 4 * 16, 64), (4, 16))
        >>> checkpoint['table'].shape, checkpoint['grid']
        (torch.Size([65, 64]), tensor([ 4, 16]))
    """
    rows, said = state_dict.get(key), state_dict.get(grid_key)
    if rows is None or rows.ndim != 2 or rows.shape[1:] != table.shape[1:]:
        return  # load_state_dict names the mismatch
    side = round((len(rows) - 1)**0.5)
    if said is not None:
        source = tuple(said.flatten().tolist())
    elif side * side == len(rows) - 1:
        source = (side, side)
    elif len(rows) == len(table):
        source = grid
    else:
        raise ValueError(f'{key} has {len(rows)} rows, not 1 + a square grid, and the checkpoint '
                         f'does not say of which grid (height, width); add it as {grid_key}')
    if len(source) != 2 or min(source) < 1 or prod(source) != len(rows) - 1:
        raise ValueError(f'{grid_key} is {source}, but {key} has {len(rows)} rows, not 1 + height '
                         '* width')
    state_dict[key] = resize_position_table(rows.float(), grid, source).to(rows.dtype)
    state_dict[grid_key] = torch.tensor(grid)
