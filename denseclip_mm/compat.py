"""Repairs of the OpenMMLab stack, each applied only where it is needed.

1. mmseg and mmdet import ``mmcv.ops`` unconditionally (onedl's mmseg does not), which fails where
   mmcv has no compiled ops (mmcv-lite, onedl's wheels); detectors call a few of them.
2. mmengine's loads of checkpoints refuse what mmengine itself writes, or run what a file says, be
   it a pickle or the text of a config; and convert numbers that are no weights.
3. mmengine knows the packages of OpenMMLab alone by name, and looks for the types of configs that
   are inherited from a package among those of a scope of its name.
4. mmengine starts its data workers before anyone could say where they shall begin.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any
from unittest.mock import patch

from denseclip_mm.files import ALLOWED, UnreadableFileError, read_tensors
from denseclip_mm.ops import OPS
from denseclip_mm.tensors import check_kinds

import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.infer import BaseInferencer
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, checkpoint, loops
from torch import Tensor
from torch.utils.data import DataLoader


def ms_deform_attn_forward(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                           weights: Tensor, *, im2col_step: int) -> Tensor:
    """Mix sampled cells of maps of several sizes (Zhu et al. 2021, Eq. 3), by mmcv's own Python.

    mmcv calls this op on a GPU alone; elsewhere it takes that function itself.

    Args:
        value: (B images, cells of all L maps, A heads, E channels of a head).
        shapes: (L, 2), height and width of each map.
        starts: (L,), the first cell of each; unused, since it follows from the shapes.
        locations: (B, Q queries, A, L, samples, 2), x and y from 0 to 1.
        weights: (B, Q, A, L, samples).
        im2col_step: images at a time of the compiled op; unused.

    Returns:
        (B, Q, A * E).
    """
    return _deformable(value, shapes, locations, weights)


def ms_deform_attn_backward(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor,
                            weights: Tensor, grad_output: Tensor, grad_value: Tensor,
                            grad_locations: Tensor, grad_weights: Tensor, *,
                            im2col_step: int) -> None:
    """Write the gradients of :func:`ms_deform_attn_forward`, with its arguments."""
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_() for each in (value, locations, weights)]
        output = _deformable(leaves[0], shapes, *leaves[1:])
    gradients = torch.autograd.grad(output, leaves, grad_output)
    for written, gradient in zip((grad_value, grad_locations, grad_weights), gradients,
                                 strict=True):
        written.copy_(gradient)


def _deformable(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights).to(value.dtype)


# Those of torchvision, and those that mmcv has itself.
_OPS = {**OPS, 'ms_deform_attn_forward': ms_deform_attn_forward,
        'ms_deform_attn_backward': ms_deform_attn_backward}


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext``: other ops exist, too, and raise when called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        if name in _OPS:
            return _OPS[name]

        def op(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f'this model calls the compiled op {name!r}, which this mmcv was built without; '
                "install the full mmcv (OpenMMLab's: >=2.1.0,<2.2.0) to use it")

        return op


def stub_missing_ops() -> bool:
    """Let mmseg and mmdet import without compiled ops; returns whether the stub was needed.

    A full mmcv keeps its own.
    """
    if 'mmcv._ext' in sys.modules or importlib.util.find_spec('mmcv._ext') is not None:
        return False
    stub = _MissingOps('mmcv._ext')
    # Without a loader: mmengine then still sees that there are no compiled ops.
    stub.__spec__ = importlib.machinery.ModuleSpec('mmcv._ext', loader=None)
    sys.modules['mmcv._ext'] = stub
    return True


def _history_buffer_method(owner: object, name: str) -> Callable:
    """The only ``getattr`` a checkpoint may perform: HistoryBuffer's statistics methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    raise ValueError(f'the checkpoint asks for {owner!r}.{name}; only the statistics methods of '
                     'mmengine.logging.HistoryBuffer may be looked up')


def load_data_only() -> None:
    """Let mmengine's loads run nothing of a file, whatever scheme its address has.

    Its own loads refuse what mmengine itself writes, to resume from (0.10.7), or run what a file
    says (onedl's 0.10.12 falls back to it; downloads do on both). Files on disk are read by
    :func:`denseclip_mm.files.read_tensors`, others as mmengine does, with torch's check forced.
    Nor is the text of a config in a checkpoint run: resuming does without it, and an inferencer
    that is given weights alone is refused. Integers are no weights of a network.
    """
    ALLOWED.extend([HistoryBuffer, (_history_buffer_method, 'builtins.getattr')])
    for prefix, load in list(CheckpointLoader._schemes.items()):
        CheckpointLoader.register_scheme(
            prefixes=prefix, force=True, loader=load_from_local if prefix == '' else _checked(load))
    BaseInferencer._init_model = _with_config(BaseInferencer._init_model)
    checkpoint.load_state_dict = _of_their_kind(checkpoint.load_state_dict)


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint from disk for mmengine, which logs the name of this function.

    Raises:
        FileNotFoundError: if there is no such file.
        UnreadableFileError: if it is no checkpoint.
    """
    return _without_program(read_tensors(filename, map_location=map_location), filename)


def _without_program(content: Any, filename: str) -> dict[str, Any]:
    """A checkpoint without the text that ``Runner.resume`` runs; mmengine itself writes none."""
    if not isinstance(content, dict) or not isinstance(content.get('meta'), dict | None):
        raise UnreadableFileError(f'{filename} is no checkpoint: it holds no state dict')
    (content.get('meta') or {}).pop('config', None)
    return content


def _checked(load: Callable) -> Callable:
    """A loader of mmengine's, of what was fetched from elsewhere."""
    @wraps(load)
    def checked(filename: str, map_location: Any = None) -> dict[str, Any]:
        with patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='1'):
            try:
                content = load(filename, map_location=map_location)
            except (OSError, ImportError):  # it was not fetched
                raise
            except Exception as error:  # damaged pickles raise nearly anything
                raise UnreadableFileError(
                    f'{filename} is no checkpoint: it is damaged, of another kind, or would run '
                    f'code when it is loaded, so it was not ({type(error).__name__})') from None
        return _without_program(content, filename)
    return checked


def _with_config(init: Callable) -> Callable:
    """A method of mmengine's inferencers, which take a config from the weights, and run it."""
    @wraps(init)
    def with_config(self: Any, cfg: Any, weights: str | None,
                    device: str = 'cpu') -> torch.nn.Module:
        if not cfg:
            raise ValueError(f'the config in {weights} is a program of whoever wrote the file, so '
                             'it was not run; give the config of the model as model=')
        return init(self, cfg, weights, device)
    return with_config


def _of_their_kind(load: Callable) -> Callable:
    """A ``load_state_dict`` of floating-point weights alone."""
    @wraps(load)
    def of_their_kind(module: torch.nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        check_kinds(state_dict, module.state_dict(), 'the checkpoint')
        load(module, state_dict, *args, **kwargs)
    return of_their_kind


def name_configs() -> None:
    """Let configs inherit this package's: ``_base_ = ['denseclip_mm::demo/coop_scenes.py']``.

    The types in them stay those of the config's ``default_scope``, mmseg or mmdet.
    """
    # Of a distribution mmengine takes the folder that pip installed into, where an editable one has
    # no code; of a module the module's own. So the name is that of a module beside .mim.
    MODULE2PACKAGE['denseclip_mm'] = 'denseclip_mm.version'
    find = Config._get_cfg_path

    @wraps(find)
    def without_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = find(cfg_path, filename)
        return path, None if scope == 'denseclip_mm' else scope

    Config._get_cfg_path = staticmethod(without_scope)


def start_data_late() -> None:
    """Let iteration-based loops start loading with their first iteration, as onedl's do.

    mmengine 0.10.7 starts as a loop is built: its data workers then have batches in hand that a
    resumed run passes over, as many as there are workers.
    """
    init = loops._InfiniteDataloaderIterator.__init__

    @wraps(init)
    def late(self: Any, dataloader: DataLoader) -> None:
        init(self, ())
        self._dataloader, self._iterator = dataloader, _late(dataloader)

    if not hasattr(loops._InfiniteDataloaderIterator, 'skip_iter'):
        loops._InfiniteDataloaderIterator.__init__ = late


def _late(dataloader: DataLoader) -> Iterator[dict]:
    yield from dataloader
