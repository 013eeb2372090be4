"""Which checkpoint a training goes on from, and whether it can."""

import math
from pathlib import Path
from typing import Any

from denseclip_mm.files import UnreadableFileError, read_tensors
from denseclip_mm.tensors import tensors_in

import numpy as np
from torch import Tensor

_NEEDED = {'state_dict', 'optimizer', 'message_hub', 'meta'}
_HUB = ('log_scalars', 'runtime_info', 'resumed_keys')


def newest_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Any], list[str]]:
    """Find the newest checkpoint that a training can be resumed from.

    It is the last that was written, by the time of the file; or, where clocks went back or times
    are equal, one of more iterations whose losses begin with those of that one. So a file of an
    older run in the same folder is not taken, however far that run came.

    Args:
        folder: holds the checkpoints of the training.

    Returns:
        Its path, what it says about itself (``meta``: ``iter``, ``epoch`` and ``seed`` are sound),
        and what is the matter with those that cannot be resumed from.

    Raises:
        FileNotFoundError: if there is none; says what is the matter with those that there are.
    """
    faults, found = [], []
    paths = [path for path in Path(folder).glob('*.pth') if not path.name.startswith('best_')]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:  # a look at it: its tensors stay on the disk
            content = _read(path, mapped=True)
        except (OSError, ValueError) as error:
            faults.append(str(error))
        else:
            found.append((path, content['meta'], _losses(content['message_hub'])))
    while found:
        path, meta, _ = newest = _newest(found)
        try:
            _read(path, mapped=False)
        except (OSError, ValueError) as error:
            faults.append(str(error))
            found.remove(newest)
        else:
            return path, meta, faults
    raise FileNotFoundError('; '.join(
        [f'there is no checkpoint to resume from in {str(folder)!r} (looked from {Path.cwd()}); '
         'without --resume the training starts anew', *faults]))


def _newest(found: list[tuple[Path, dict[str, Any], np.ndarray]]) -> tuple:
    """The last that was written, or one that goes on from it."""
    def place(each: tuple) -> tuple[int, int]:
        return each[0].stat().st_mtime_ns, each[1]['iter']
    path, _, losses = last = max(found, key=place)
    later = [each for each in found if each[0] == path or np.array_equal(
        each[2][:len(losses)], losses, equal_nan=True)]
    return max([last, *later], key=lambda each: place(each)[::-1])


def _losses(message_hub: dict[str, Any]) -> np.ndarray:
    """The losses of all iterations of a run, as mmengine keeps them for its log."""
    history = getattr(message_hub['log_scalars'].get('train/loss'), '_log_history', None)
    is_history = isinstance(history, np.ndarray) and history.dtype.kind == 'f'
    return history if is_history else np.zeros(0)


def _read(path: Path, mapped: bool) -> dict[str, Any]:
    content = read_tensors(path, mapped=mapped)
    if fault := _fault(content) or (None if mapped else _lost(content['optimizer'])):
        raise UnreadableFileError(f'{path} is no checkpoint to resume from: {fault}')
    return content


def _fault(content: Any) -> str | None:
    """What keeps mmengine from going on from a checkpoint, or would lead it astray."""
    if not (isinstance(content, dict) and content.keys() >= _NEEDED):
        return 'it holds no state of an optimiser'
    for key in _NEEDED:
        if not isinstance(content[key], dict):
            return f'its {key} is a {type(content[key]).__name__}, not a dict'
    for key in _HUB:
        if not isinstance(content['message_hub'].get(key), dict):
            return f'its message_hub has no dict of {key}'
    meta = content['meta']
    for key in ('iter', 'epoch', 'seed'):
        number = meta.get(key)
        is_none = key == 'seed' and number is None
        if not is_none and not (type(number) is int and 0 <= number < 2**32):
            return f'its meta has {key}={str(number)[:40]!r}, not a number of 0 to {2**32 - 1:,}'
    return _fault_of_schedulers(content.get('param_schedulers', []))


def _fault_of_schedulers(saved: Any) -> str | None:
    for states in saved.values() if isinstance(saved, dict) else [saved]:  # of each optimiser
        if not (isinstance(states, list) and all(isinstance(state, dict) for state in states)):
            return 'its param_schedulers are no list of dicts'
        for key in ('last_step', '_global_step'):
            steps = [state.get(key, 0) for state in states]
            if not all(type(step) is int and step >= -1 for step in steps):  # -1: not yet begun
                return f'its param_schedulers have {key}={str(steps)[:40]}, not numbers of steps'
    return None


def _lost(optimizer: dict[str, Any]) -> str | None:
    """Whether the optimiser's state is of no use."""
    if any(isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all()
           for value in tensors_in(optimizer)):
        return 'the state of its optimiser is NaN or infinite'
    groups = optimizer.get('param_groups', ())  # of several optimisers: each has its own
    rates = [group.get('lr') for group in groups if isinstance(group, dict)]
    if not all(isinstance(rate, Tensor) or (isinstance(rate, int | float) and 0 <= rate < math.inf)
               for rate in rates):
        return f'its optimiser has learning rates that are none ({str(rates)[:60]})'
    return None
