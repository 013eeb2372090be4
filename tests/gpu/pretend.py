"""A GPU where there is none: tensors that say they are on ``pretend:0`` and compute on the CPU.

They have real values, and operators refuse what CUDA's refuse: tensors of both devices, and rows of
attention that its fused kernel cannot read. PyTorch takes the device for one of a backend written
in Python (its ``privateuseone``), once a process. There are no backward passes.
"""

from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from mmengine.structures import instance_data
from torch import Tensor
from torch.nn import functional as F
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
# These take tensors of both devices: copies, and what is on the GPU by indices on the CPU.
_BOTH = {aten.copy_, aten._to_copy, aten.index, aten.index_put, aten.index_put_,
         aten._index_put_impl_}


class OnGPU(Tensor):
    """A tensor on the device; ``numbers`` is where its numbers are."""

    @staticmethod
    def __new__(cls, numbers: Tensor) -> 'OnGPU':
        """A tensor without memory of its own."""
        return Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype, device='pretend:0')

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    @property
    def data(self) -> 'OnGPU':
        """Without history; what is assigned replaces the numbers."""
        return self.detach()

    @data.setter
    def data(self, value: 'OnGPU') -> None:
        self.numbers = value.numbers

    def tolist(self) -> Any:
        """The numbers, which PyTorch refuses to subclasses."""
        return self.numbers.tolist()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Refuse what the memory-efficient kernel of CUDA refuses (PyTorch 2.11)."""
        if func is F.scaled_dot_product_attention and any(
                each.stride(-1) == 1 and each.stride(-2) % 4 for each in args[:3]):
            raise RuntimeError('query, key or value is not correctly aligned')
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Compute on the CPU."""
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    gpu = [each for each in tensors if isinstance(each, OnGPU)]
    left = [each for each in tensors if each.ndim and not isinstance(each, OnGPU)]
    by_gpu = func.overloadpacket is aten.index and not isinstance(args[0], OnGPU)
    if gpu and (by_gpu or (left and func.overloadpacket not in _BOTH)):
        raise RuntimeError(f'{func} got tensors on the GPU and on the CPU')
    there = isinstance(args[0], OnGPU) if func is aten.copy_.default else bool(gpu)
    if (device := kwargs.get('device')) is not None:
        there = torch.device(device).type == 'pretend'
        kwargs = {**kwargs, 'device': torch.device('cpu')}
    written = {id(each.numbers): each for each in gpu}
    result = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))

    def placed(x: Any) -> Any:
        if not there or not isinstance(x, Tensor):
            return x
        return written[id(x)] if id(x) in written else OnGPU(x)
    return tree_map(placed, result)


def _numbers(x: Any) -> Any:
    return x.numbers if isinstance(x, OnGPU) else x


def _empty(size: Any, *args: Any, device: Any = None, pin_memory: Any = None,
           **options: Any) -> OnGPU:
    if args:
        return OnGPU(torch.empty_strided(size, *args, **options))
    options.pop('memory_format', None)
    return OnGPU(torch.empty(size, **options))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _numbers(target).copy_(_numbers(source))
    return target


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Of autocast, which asks."""
        return [torch.bfloat16, torch.float16]


backend_registration._setup_privateuseone_for_python_backend('pretend', _Backend())
_library = torch.library.Library('aten', 'IMPL')
for _name, _function in (('empty_strided', _empty), ('empty.memory_format', _empty),
                         ('_copy_from', _copy_from)):  # of what C++ calls for itself
    _library.impl(_name, _function, 'PrivateUse1')


@contextmanager
def pretend_gpu() -> Any:
    """Where tensors and modules can be moved to ``pretend:0``."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    index = instance_data.IndexType | OnGPU  # of mmengine's, which knows CUDA's types by name
    with torch.no_grad(), _Mode(), patch.object(instance_data, 'IndexType', index):
        yield
