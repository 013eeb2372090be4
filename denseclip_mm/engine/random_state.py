"""The state of the generators that a training draws from."""

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Random state of Python, NumPy, PyTorch and CUDA: tensors, numbers and tuples of them."""
    return dict(cpu_random_state(),
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
    set_cpu_random_state(state)
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def cpu_random_state() -> dict[str, Any]:
    """The same without CUDA, which data workers may not touch."""
    name, keys, *rest = np.random.get_state()
    return dict(python=random.getstate(), numpy=(name, keys.tolist(), *rest),
                torch=torch.get_rng_state())


def set_cpu_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`cpu_random_state` gave."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())


def seed_cpu(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch on the CPU by a few whole numbers from 0 on, mixed.

    Examples:
        >>> seed_cpu(0, 7)
        >>> first = random.random(), np.random.rand(), torch.rand(1)
        >>> seed_cpu(0, 7)
        >>> first == (random.random(), np.random.rand(), torch.rand(1))
        True
    """
    python, *numpy, low, high = np.random.SeedSequence(numbers).generate_state(7).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(low + (high << 32))
