"""What tensors of a file have to be: in it, finite, and of the kind of those that they fill."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST, _DEEPEST = 10**7, 100
TANGLED = (f'it holds more than {_MOST:,} entries, or more than {_DEEPEST} lists or dicts in one '
           'another, so it was not taken')


def tensors_in(content: Any) -> Iterator[Tensor | np.ndarray]:
    """All tensors and arrays in what was read from a file, however deep in lists and dicts.

    Raises:
        ValueError: if there are more entries, or deeper ones, than a checkpoint has; a list that
            is in itself is such a one.

    Examples:
        >>> [each.item() for each in tensors_in(dict(a=[1, (torch.tensor(2), {})]))]
        [2]
    """
    waiting, count = [(content, 0)], 1
    while waiting:
        value, depth = waiting.pop()
        inner: Any = getattr(value, '__dict__', {}).values()  # HistoryBuffer has arrays
        if isinstance(value, Tensor | np.ndarray):
            yield value
            inner = value.flat if getattr(value.dtype, 'hasobject', False) else ()
        elif isinstance(value, dict):
            inner = [*value, *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            inner = value
        count += len(inner)
        if count > _MOST or depth > _DEEPEST:
            raise ValueError(TANGLED)
        waiting.extend((each, depth + 1) for each in inner)


def is_in_file(value: Tensor | np.ndarray, size: int) -> bool:
    """Whether a file can hold all the numbers of a tensor.

    Args:
        value: read from the file.
        size: of the file, unpacked, in bytes.
    """
    if isinstance(value, np.ndarray):
        return value.nbytes <= size
    return (value.layout == torch.strided and not value.is_meta and not value.is_quantized
            and value.nbytes <= value.untyped_storage().nbytes())


def check_finite(tensors: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights that are NaN, infinite or quantised: what scales those is not among them.

    Args:
        tensors: by name; what is no tensor is passed over.
        path: where they are from, for the error message.

    Raises:
        ValueError: if one of them is; says which.

    Examples:
        >>> check_finite({'bias': torch.tensor([0.0, float('nan')])}, 'model.pth')
        Traceback (most recent call last):
        ValueError: model.pth holds NaN or infinite weights (1 tensors: bias); take an earlier one
    """
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    narrow = [name for name, value in tensors.items()
              if value.dtype.itemsize == 1 and value.dtype != torch.bool]
    if faulty := narrow or [name for name, value in tensors.items()
                            if value.is_floating_point() and not value.isfinite().all()]:
        kind = 'quantised' if narrow else 'NaN or infinite'
        raise ValueError(f'{path} holds {kind} weights ({len(faulty)} tensors: '
                         f'{shorten(", ".join(faulty), 120)}); take '
                         + ('those of 16 or 32 bits' if narrow else 'an earlier one'))


def check_kinds(tensors: Mapping[str, Any], own: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse whole numbers, truth values and complex numbers as floating-point weights.

    PyTorch would convert them without a word.

    Args:
        tensors: by name; what is no tensor is passed over.
        own: the tensors of the model, which they are to fill.
        path: where they are from, for the error message.

    Raises:
        ValueError: if one of them is of another kind than the model's; says which.

    Examples:
        >>> check_kinds({'bias': torch.tensor([0, 1])}, {'bias': torch.zeros(2)}, 'model.pth')
        Traceback (most recent call last):
        ValueError: model.pth holds numbers of another kind than the model (1 tensors: bias is \
int64, not float32); take the weights as they were trained
    """
    faulty = [f'{name} is {_kind(value)}, not {_kind(own[name])}' for name, value in tensors.items()
              if isinstance(value, Tensor) and name in own and not value.is_floating_point()
              and (own[name].is_floating_point() or value.is_complex())]
    if faulty:
        raise ValueError(f'{path} holds numbers of another kind than the model ({len(faulty)} '
                         f'tensors: {shorten(", ".join(faulty), 120)}); take the weights as they '
                         'were trained')


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix('torch.')
