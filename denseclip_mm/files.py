"""Tensors read as the untrusted input that they are; files written whole or not at all."""

import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file


def read_tensors(path: str | Path, what: str = 'checkpoint') -> Any:
    """Read what ``torch.save``, safetensors or ``numpy.save`` wrote, onto the CPU.

    Nothing in the file is run.

    Args:
        path: the file; ``.safetensors`` and ``.npy`` are known by their ending.
        what: it should be, for the error message.

    Returns:
        What was saved: a tensor, or tensors and numbers in dicts and lists.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another kind, or would run code when it is loaded; in one
            line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no {what} {str(path)!r} (looked from {Path.cwd()})')
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        if path.suffix == '.npy':
            return torch.from_numpy(np.load(path, allow_pickle=False))
        with warnings.catch_warnings(action='ignore'):  # of kinds of files that it then refuses
            return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(f'{path} is no {what}: {_fault(path, error)}') from None


def read_state_dict(path: str | Path,
                    what: str = 'checkpoint') -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a state dict, bare or in a checkpoint of a training.

    Args and errors are those of :func:`read_tensors`; a file without a state dict is an error, too.

    Returns:
        The state dict, without the prefix ``module.`` of wrapped models, and what a checkpoint
        says about itself (``meta``).
    """
    content = read_tensors(path, what)
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    if not state or not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError(f'{path} is no {what}: it holds no state dict')
    meta = content.get('meta') or {}
    if not isinstance(meta, dict):
        raise ValueError(f'{path} is no {what}: its meta is a {type(meta).__name__}, not a dict')
    return {key.removeprefix('module.'): value for key, value in state.items()}, meta


def _fault(path: Path, error: Exception) -> str:
    """What is the matter with a file that could not be read."""
    asked_for = re.search(r'GLOBAL (\S+)', str(error))
    if asked_for:
        return f'it would run code when it is loaded, so it was not ({asked_for[1]})'
    if isinstance(error, PermissionError):
        return 'it may not be read'
    with path.open('rb') as file:
        head = file.read(80)
    line = head.decode(errors='surrogateescape').splitlines()[:1]
    if not line:
        return 'it is empty'
    if line[0].startswith('version https://git-lfs'):
        return 'it is a pointer of Git LFS; "git lfs pull" fetches the file itself'
    if line[0].isprintable():
        return f'it is a text, {line[0]!r}'
    if head.startswith(b'PK') and not zipfile.is_zipfile(path):
        return 'it is cut short; fetch or copy it anew'
    if 'TorchScript' in str(error):
        return 'it is a TorchScript program'
    return ('it is damaged, of another kind, or would run code when it is loaded, so it was not '
            f'({type(error).__name__})')


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the path to write to, which takes the target's place.

    It takes it when the block ends. If the block raises, also by Ctrl-C, the target stays as it
    was. Parents are made; writers of one target at the same time do not disturb each other, and the
    last of them stays.

    Args:
        path: the target; a folder is possible where there is none yet.

    Yields:
        A path of the target's name, in a folder of its own beside the target. What else the block
        writes into that folder, such as ONNX's external data, goes along.

    Examples:
        >>> with TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder) / 'results' / 'classes.txt') as part:
        ...         _ = part.write_text('sky')
        ...     [path.read_text() for path in Path(folder).rglob('*.*')]
        ['sky']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix='.part-') as folder:
        part = Path(folder) / path.name
        try:
            yield part
            for other in set(part.parent.iterdir()) - {part}:
                os.replace(other, path.with_name(other.name))
            os.replace(part, path)
        except OSError as error:
            if error.filename is None or Path(error.filename).is_relative_to(folder):
                raise type(error)(error.errno, error.strerror, str(path)) from error
            raise
