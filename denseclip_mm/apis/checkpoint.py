"""Checkpoints, read as the untrusted input that they are, and taken whole or not at all."""

from pathlib import Path
from textwrap import shorten
from typing import Any

from denseclip_mm.compat import allow_resume
from denseclip_mm.files import read_state_dict

from torch import nn


def load_checkpoint(model: nn.Module, path: str | Path, prefix: str = '') -> dict[str, Any]:
    """Load a model's weights, every tensor of it; mmengine only warns of those that do not fit.

    Args:
        model: the model, or a part of it.
        path: checkpoint file of a training or an export.
        prefix: of the part's tensors in the file, such as ``'neck.'``.

    Returns:
        What the file says about itself (``meta``).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, would run code when it is loaded, or is not of this
            model.
    """
    allow_resume()  # onedl-mmengine takes the names back after each load of its own
    state, meta = read_state_dict(path)
    try:
        model.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()
                               if key.startswith(prefix)})
    except RuntimeError as error:
        raise ValueError(f'{path} is no checkpoint of this config: '
                         f'{shorten(str(error), 300)}') from None
    return meta
