"""What the last attention of a CLIP, trained for one embedding of the image, is for its cells.

None of this has weights of its own or is trained.

Shapes: B images, A heads, N tokens (of cells alone, or the class token first), E channels of a
head.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHARPNESS = 5.0  # of value-value attention; the best on scenes that no figure of the docs is of
REACH = 5.0  # standard deviation of the neighbourhood in cells, as published by NACLIP


def check_dense_embedding(kind: str, kinds: tuple[str, ...]) -> None:
    """Refuse a dense embedding that a backbone has not.

    Raises:
        ValueError: if it has not.
    """
    if kind not in kinds:
        raise ValueError(f'dense_embedding must be {" or ".join(map(repr, kinds))}, got {kind!r}')


def value_value(v_BANE: Tensor) -> Tensor:
    """Mix values by their likeness (CLIP Surgery, Li et al. 2023; GEM, Bousselham et al. 2024).

    Softmax of the products of the values at unit length, times ``SHARPNESS``.

    Examples:
        >>> value_value(torch.eye(2)[None, None])[0, 0, 0]
        tensor([0.9933, 0.0067])
    """
    unit_BANE = F.normalize(v_BANE, dim=-1)
    return F.scaled_dot_product_attention(unit_BANE, unit_BANE, v_BANE, scale=SHARPNESS)


def neighbour(k_BANE: Tensor, v_BANE: Tensor, size: tuple[int, int]) -> Tensor:
    """Mix values by the likeness of keys and by nearness (NACLIP, Hajimiri et al. 2025, Eq. 7).

    A Gaussian around each cell is added to the products of the keys; the class token, which comes
    first, has no place.

    Args:
        k_BANE: keys of the class token and the cells.
        v_BANE: their values.
        size: rows and columns of the cells.
    """
    near_NN = k_BANE.new_zeros(k_BANE.shape[2], k_BANE.shape[2])
    row_hh, column_ww = (_nearness(length, k_BANE) for length in size)
    near_NN[1:, 1:] = torch.kron(row_hh, column_ww)
    return F.scaled_dot_product_attention(k_BANE, k_BANE, v_BANE, attn_mask=near_NN)


def _nearness(length: int, like: Tensor) -> Tensor:
    """The Gaussian of the distances between places on a line: (length, length)."""
    place = torch.arange(length, device=like.device, dtype=like.dtype)
    return torch.exp(-(place[:, None] - place)**2 / (2 * REACH**2))
