"""Two repairs of the OpenMMLab stack, each applied only where it is needed.

1. mmsegmentation 1.2.2 imports ``mmcv.ops`` unconditionally; mmcv-lite has no compiled ops.
2. mmengine 0.10.7 resumes with ``torch.load``, which since torch 2.6 refuses the classes that
   mmengine itself writes into a checkpoint.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import mmcv
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version


class _MissingOps(ModuleType):
    """Stands in for ``mmcv._ext``: every op exists and raises when called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)

        def op(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f'this model calls the compiled op {name!r}, which mmcv-lite does not have; '
                'install the full mmcv (>=2.1.0,<2.2.0) to use it')

        return op


def stub_missing_ops() -> bool:
    """Let mmseg 1.2 import under mmcv-lite; returns whether the stub was needed.

    Later mmcv releases (the onedl fork's, 2.3 on) are paired with an mmseg that guards the import.
    """
    if digit_version(mmcv.__version__) >= digit_version('2.2.0'):
        return False
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


def allow_resume() -> None:
    """Name what mmengine writes into its checkpoints as safe for ``weights_only`` loading."""
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    torch.serialization.add_safe_globals([
        HistoryBuffer,
        np.ndarray,
        np.dtype,
        multiarray._reconstruct,
        multiarray.scalar,
        # Plain numbers of any width: metrics are float32, what save_best notes of them too.
        *{type(np.dtype(code)) for code in '?bBhHiIlLqQefd'},
        (_history_buffer_method, 'builtins.getattr'),
    ])
