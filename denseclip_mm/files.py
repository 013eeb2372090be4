"""Tensors read as the untrusted input that they are; files written whole or not at all."""

import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from denseclip_mm.tensors import TANGLED, is_in_file, tensors_in

import numpy as np
import torch
from safetensors.torch import load_file

_MOST_UNPACKED = 2**26  # bytes beyond the size of an archive; only a program's text is compressed
_UNPACKS = 'it would unpack to far more than its size, so it was not unpacked'
_CHANGED = 'its bytes are not those that were saved; fetch or copy it anew'

# What is the matter with a file, by its first bytes and what torch or safetensors says of it.
_SAID = {'EOFError|expected EOF|central directory|not fully covered|header (length|too small)':
         'it is cut short; fetch or copy it anew',
         r"^b'\\x1f\\x8b|hasRecord|\.tar format":
         'it is an archive of something else; unpack it, and give the file in it',
         'TorchScript': 'it is a TorchScript program'}

# What may stand in a file beside tensors: numpy's numbers, also as numpy 1 names them. ``compat``
# adds what mmengine writes into its checkpoints. It holds during our own loads only.
ALLOWED: list[Any] = [
    np.ndarray,
    np.dtype,
    *((call, f'{module}.multiarray.{call.__name__}')  # of arrays, and of single numbers
      for call in (np.zeros(0).__reduce__()[0], np.float32(0).__reduce__()[0])
      for module in ('numpy.core', 'numpy._core')),
    # Plain numbers of any width: metrics are float32, what save_best notes of them too.
    *{type(np.dtype(code)) for code in '?bBhHiIlLqQefd'},
]


class UnreadableFileError(ValueError):
    """A file is no tensors, is damaged, or would run code when it is loaded; says which."""


def read_tensors(path: str | Path, what: str = 'checkpoint', *,
                 map_location: Any = 'cpu', mapped: bool = False) -> Any:
    """Read what ``torch.save``, safetensors or ``numpy.save`` wrote.

    Nothing in the file is run. The check sums of an archive of torch are compared; safetensors,
    ``.npy`` and torch before 1.6 have none.

    Args:
        path: the file; ``.safetensors`` and ``.npy`` are known by their ending.
        what: it should be, for the error message.
        map_location: where tensors of ``torch.save`` go, as in ``torch.load``.
        mapped: leave the tensors of an archive of torch on the disk, and its check sums uncompared:
            for a look at what else it holds.

    Returns:
        What was saved: a tensor, or tensors and numbers in dicts and lists.

    Raises:
        FileNotFoundError: if there is no such file.
        UnreadableFileError: (a ValueError) if it is damaged, of another kind, unpacks to more than
            64 MB beyond its size, or would run code when it is loaded; in one line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no {what} {str(path)!r} (looked from {Path.cwd()})')
    with reading(path, what):
        if path.suffix == '.safetensors':
            return load_file(path)
        if path.suffix == '.npy':  # mapped: the header's size is compared with the file's
            return torch.from_numpy(np.load(path, mmap_mode='r', allow_pickle=False).copy())
        is_archive = zipfile.is_zipfile(path)
        if is_archive and not mapped:  # whose check sums torch does not compare
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError(_CHANGED)
        new = set(ALLOWED) - set(torch.serialization.get_safe_globals())
        with torch.serialization.safe_globals(list(new)), \
                warnings.catch_warnings(action='ignore'):  # of kinds of files that it then refuses
            content = torch.load(path, map_location=map_location, weights_only=True,
                                 mmap=is_archive and mapped)
        size = path.stat().st_size + _MOST_UNPACKED
        if not all(is_in_file(value, size) for value in tensors_in(content)):
            raise ValueError(_UNPACKS)
        return content


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
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise UnreadableFileError(f'{path} is no {what}: it holds no state dict')
    meta = content.get('meta')
    if fault := _fault_of_meta({} if meta is None else meta):
        raise UnreadableFileError(f'{path} is no {what}: {fault}')
    return {key.removeprefix('module.'): value for key, value in state.items()}, meta or {}


def _fault_of_meta(meta: Any) -> str | None:
    """What is the matter with what a checkpoint says about itself and its classes."""
    if not isinstance(meta, dict):
        return f'its meta is a {type(meta).__name__}, not a dict'
    named = meta.get('dataset_meta')
    named = {} if named is None else named
    if not isinstance(named, dict):
        return f'its dataset_meta is a {type(named).__name__}, not a dict'
    for source, keys in ((meta, ('CLASSES', 'PALETTE')), (named, ('classes', 'palette'))):
        classes, palette = (source.get(key) for key in keys)
        if classes is not None and not (isinstance(classes, list | tuple) and all(
                isinstance(name, str) for name in classes)):
            return f'its classes are no list of names ({type(classes).__name__})'
        if palette is not None and not (isinstance(palette, list | tuple) and all(
                isinstance(colour, list | tuple) and len(colour) == 3
                and all(isinstance(part, int | float) and 0 <= part <= 255 for part in colour)
                for colour in palette)):
            return 'its palette is no list of colours (three numbers of 0 to 255 each)'
    return None


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Says in one line what is the matter with a file that the block cannot read.

    Raises:
        UnreadableFileError: whatever the block raises, or if an archive unpacks to far more.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size + _MOST_UNPACKED:
                raise ValueError(_UNPACKS)
        yield
    except Exception as error:  # damaged pickles raise nearly anything
        raise UnreadableFileError(f'{path} is no {what}: {_fault(path, error)}') from None


def _fault(path: Path, error: Exception) -> str:
    """What is the matter with a file that could not be read."""
    if asked_for := re.search(r'GLOBAL (\S+)', str(error)):
        return f'it would run code when it is loaded, so it was not ({asked_for[1]})'
    if str(error) in (_UNPACKS, _CHANGED, TANGLED):
        return str(error)
    if isinstance(error, PermissionError):
        return 'it may not be read'
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        return 'it is empty'
    line = (head.decode(errors='surrogateescape').strip('\ufeff\t\r\n ').splitlines() or [''])[0]
    if line.startswith('version https://git-lfs'):
        return 'it is a pointer of Git LFS; "git lfs pull" fetches the file itself'
    if re.match(r'<(!doctype )?html', line, re.IGNORECASE):
        return 'it is a web page, as a download that failed leaves it; fetch the file anew'
    if line.isprintable():
        return f'it is a text, {line[:80]!r}'
    said = f'{head[:2]!r} {error!r}'
    return next((cause for words, cause in _SAID.items() if re.search(words, said)), (
        'it is damaged, of another kind, or would run code when it is loaded, so it was not '
        f'({type(error).__name__})'))


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the path to write to, which takes the target's place.

    It takes it when the block ends. If the block raises, also by Ctrl-C, the target stays as it
    was. Parents are made; writers of one target at the same time do not disturb each other, and the
    last of them stays.

    Args:
        path: the target; a folder is possible where there is none yet.

    Raises:
        OSError: if the disk is full or may not be written; names the target.

    Yields:
        A path of the target's name, in a folder of its own beside the target. What else the block
        writes into that folder, such as ONNX's external data, goes along.

    Examples:
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / 'results' / 'classes.txt') as part:
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
                raise OSError(error.errno or ENOSPC, error.strerror or str(error),
                              str(path)) from error
            raise
        except RuntimeError as error:
            if 'inline_container' in str(error):  # as torch.save ends where a disk is full
                raise OSError(ENOSPC, 'could not be written; is the disk full?',
                              str(path)) from error
            raise
