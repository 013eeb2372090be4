"""The state of the generators that a training draws from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_NUMPY = np.random.MT19937()  # of blocks, whose seeds it takes in turn


def random_state() -> dict[str, Any]:
    """Random state of Python, NumPy, PyTorch and CUDA: tensors, numbers and tuples of them."""
    name, keys, *rest = np.random.get_state()
    return dict(python=random.getstate(), numpy=(name, keys.tolist(), *rest),
                torch=torch.get_rng_state(),
                cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None)


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` gave.

    Examples:
        >>> state = random_state()
        >>> first = random.random(), np.random.rand(), torch.rand(1)
        >>> set_random_state(state)
        >>> first == (random.random(), np.random.rand(), torch.rand(1))
        True
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextmanager
def drawing_from(*numbers: int) -> Iterator[None]:
    """In the block Python, NumPy and PyTorch, on the CPU, draw from a seed; then as before it.

    Blocks may not lie in each other.

    Args:
        numbers: whole numbers from 0 on, mixed to the seed.

    Examples:
        >>> before = random.getstate()
        >>> with drawing_from(0, 7):
        ...     first = random.random(), np.random.rand(), torch.rand(1)
        >>> with drawing_from(0, 7):
        ...     first == (random.random(), np.random.rand(), torch.rand(1))
        True
        >>> random.getstate() == before
        True
    """
    python, low, high, *numpy = np.random.SeedSequence(numbers).generate_state(7).tolist()
    # NumPy's generator is put aside whole: to copy its state takes longer than all the rest.
    before = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
    random.seed(python)
    np.random.set_bit_generator(_NUMPY)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(low + (high << 32))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_bit_generator(before[1])
        torch.set_rng_state(before[2])
