"""The tensors of a TorchScript archive, such as OpenAI's CLIP files, without running its program.

``torch.jit.load`` runs what the archive's ``__setstate__`` methods say, down to writing files. The
layout is simple enough to read: ``data.pkl`` holds the tree of modules, ``data/N`` the numbers of
each storage, and ``code`` the text of each module's class, which lists its parameters and buffers.
"""

import ast
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = dict(Double=torch.float64, Float=torch.float32, Half=torch.float16,
               BFloat16=torch.bfloat16, Long=torch.int64, Int=torch.int32, Short=torch.int16,
               Char=torch.int8, Byte=torch.uint8, Bool=torch.bool)
_CLASS = re.compile(r'^class (\w+)\(Module\):\n  __parameters__ = (\[.*\])$'
                    r'(?:\n  __buffers__ = (\[.*\])$)?', re.MULTILINE)  # without: torch before 1.6
_MOST = 100_000  # modules and tensors
_LONGEST = 1000  # characters of a module's name


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive, or looks like one."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('constants.pkl') for name in archive.namelist())


def read_archive(path: str | Path) -> dict[str, Tensor]:
    """Parameters and buffers by the names that ``torch.jit.load(path).state_dict()`` gives them.

    Raises:
        pickle.UnpicklingError: if the archive asks for anything but tensors and modules.
        Exception: of nearly any kind, if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        reader = _Archive(archive)
        state, waiting, seen = {}, [('', reader.root())], 0
        while waiting:
            prefix, module = waiting.pop()
            seen += 1
            if len(prefix) > _LONGEST or seen + len(waiting) + len(state) > _MOST:
                raise ValueError('its modules hold each other')
            for name in reader.tensors_of(module):
                if module.attributes[name] is not None:  # a bias that is left out
                    state[prefix + name] = reader.tensor(module.attributes[name])
            # The last comes first off the list.
            waiting += [(f'{prefix}{name}.', value) for name, value
                        in reversed(module.attributes.items()) if isinstance(value, _Module)]
    return state


class _Inert:
    """What a pickled call gives: the arguments."""

    def __init__(self, *args: object) -> None:
        self.args = args


class _Module:
    """A module of the program: its attributes, none of which is run."""

    path = ''

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Keep the attributes."""
        self.attributes = dict(attributes)


class _Unpickler(pickle._Unpickler):  # in Python: the one in C can be made to take all memory
    def find_class(self, module: str, name: str) -> type:
        """Stand-ins, made anew for each archive, so that it can spoil no more than its own."""
        if module == 'collections' and name == 'OrderedDict':
            return OrderedDict
        if module.split('.')[0] == '__torch__':
            return type('Module', (_Module, ), dict(path=f'{module}.{name}'))
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2') or (
                module == 'torch.jit._pickle'):  # which mark the types of lists
            return type('Inert', (_Inert, ), {})
        if module == 'torch' and name.removesuffix('Storage') in _DTYPES:
            return type('Storage', (), dict(dtype=_DTYPES[name.removesuffix('Storage')]))
        raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')

    def persistent_load(self, pid: tuple) -> tuple[str, torch.dtype]:
        """Which record a storage is, and of which numbers."""
        _, kind, record, *_ = pid
        return str(record), kind.dtype


class _Archive:
    """Records of an open archive, each read once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.folder = next(name for name in archive.namelist()
                           if name.count('/') == 1 and name.endswith('/data.pkl'))[:-8]
        self.storages: dict[str, Tensor] = {}
        self.classes: dict[str, dict[str, list[str]]] = {}  # of each file of the program

    def root(self) -> _Module:
        root = _Unpickler(io.BytesIO(self.archive.read(f'{self.folder}data.pkl'))).load()
        if not isinstance(root, _Module):
            raise ValueError('it holds no module')
        return root

    def tensors_of(self, module: _Module) -> list[str]:
        """The names of a module's parameters and buffers, as the text of its class lists them."""
        file, _, name = module.path.rpartition('.')
        if file not in self.classes:
            text = self.archive.read(f'{self.folder}code/{file.replace(".", "/")}.py').decode()
            self.classes[file] = {
                found: [*ast.literal_eval(parameters), *ast.literal_eval(buffers or '[]')]
                for found, parameters, buffers in _CLASS.findall(text)}
        return self.classes[file][name]

    def tensor(self, call: _Inert) -> Tensor:
        """The tensor of a pickled call of ``_rebuild_tensor_v2``."""
        (record, dtype), offset, size, stride, *_ = call.args
        if record not in self.storages:
            numbers = bytearray(self.archive.read(f'{self.folder}data/{record}'))
            self.storages[record] = (torch.frombuffer(numbers, dtype=dtype) if numbers
                                     else torch.empty(0, dtype=dtype))
        if prod(size) > self.storages[record].numel():
            raise ValueError('a tensor is larger than its storage')
        return self.storages[record].as_strided(size, stride, offset)
