"""Checkpoints, read as the untrusted input that they are, and taken whole or not at all."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from denseclip_mm.apis.checks.towers import check_loaded_towers, check_text_tower, check_weights
from denseclip_mm.files import read_state_dict
from denseclip_mm.models.class_order import another_order
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.tensors import check_finite, check_kinds
from denseclip_mm.text import TextEmbeddings

from mmengine import fileio
from mmengine.logging import MMLogger
from mmseg.models import BaseSegmentor
from torch import Tensor, nn

# Tensors with the classes in a dimension: the last layers of heads, class-specific contexts, and
# the input channels of the wrapped neck that the score map takes. By names and dimensions.
_CLASSES_AT = ((r'(decode|auxiliary)_head\.(\d+\.)?conv_seg\.', (1, 4), 0),
               (r'(.*\.)?(bbox|mask)_head\..*(cls|reg|logits)(_branches\.\d+)?\.(weight|bias)$',
                (1, 2, 4), 0),  # boxes may be found for each class, too
               (r'neck\.prompt\.contexts$', (3, 4), 0),
               (r'neck\.neck\..*weight$', (4, ), 1))


def load_checkpoint(model: nn.Module, path: str | Path, prefix: str = '', *,
                    new_classes: bool = False) -> dict[str, Any]:
    """Load a model's weights, every tensor of it; mmengine only warns of those that do not fit.

    Towers of two CLIPs are warned of (:func:`denseclip_mm.apis.checks.towers.check_loaded_towers`).

    Args:
        model: the model, or a part of it.
        path: checkpoint file of a training or an export, or its address.
        prefix: of the part's tensors in the file, such as ``'neck.'``.
        new_classes: whether the model may have another number of classes than the file, to be
            trained from it. Tensors of this number then stay as they are, named in the log: the
            last layers of each head, class-specific contexts, and the layer of the wrapped neck
            that takes the score map.

    Returns:
        What the file says about itself (``meta``).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, would run code when it is loaded, is not of this model,
            was trained with its class names in another order, or holds weights that are NaN,
            infinite, quantised or of another kind of number.
    """
    with _local(path) as file:
        state, meta = read_state_dict(file)
    state = {key.removeprefix(prefix): value for key, value in state.items()
             if key.startswith(prefix)}
    other = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise ValueError(f'{path} is no checkpoint of this config: {other} is a '
                         f'{type(state[other]).__name__}, not a tensor')
    check_finite(state, path)
    check_kinds(state, model.state_dict(), path)
    if new_classes:
        state |= _kept(model, state, path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f'{path} is no checkpoint of this config: '
                         f'{shorten(str(error), 300)}') from None
    if fault := _other_order(model, meta, path):
        raise ValueError(fault)
    check_loaded_towers(model, path)
    return meta


def plain_model(model: nn.Module) -> nn.Module:
    """The segmentor in wrappers for several processes and test time augmentation."""
    while hasattr(model, 'module'):
        model = model.module
    return model


def _other_order(model: nn.Module, meta: dict[str, Any], path: str | Path) -> str | None:
    classes = (meta.get('dataset_meta') or {}).get('classes')
    if not isinstance(getattr(model, 'neck', None), PixelTextNeck) or not classes:
        return None
    return another_order(model.neck.class_names, list(map(str, classes)), str(path))


@contextmanager
def _local(path: str | Path) -> Iterator[str | Path]:
    """The file, fetched first if it is given by an address."""
    if '://' not in str(path):
        yield path
        return
    try:
        with fileio.get_local_path(str(path)) as file:
            yield file
    except OSError as error:
        raise FileNotFoundError(f'{path} could not be fetched: {error}') from None


def _kept(model: nn.Module, state: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The model's own tensors where the file has those of another number of classes."""
    kept = {}
    for key, own in model.state_dict().items():
        theirs = state.get(key)
        if not isinstance(theirs, Tensor) or theirs.ndim != own.ndim or theirs.shape == own.shape:
            continue
        if any(re.match(names, key) and own.ndim in dimensions
               and [index for index in range(own.ndim)
                    if own.shape[index] != theirs.shape[index]] == [place]
               for names, dimensions, place in _CLASSES_AT):
            kept[key] = own
    if kept:
        MMLogger.get_current_instance().warning(
            '%s has another number of classes; these start anew: %s', path, ', '.join(kept))
    return kept


def start_zero_shot(model: BaseSegmentor) -> None:
    """Load the pretrained weights of a model that needs no training.

    Raises:
        FileNotFoundError: if the weights are not to be had.
        ValueError: if its neck or head has something to learn, weights or text embeddings are in
            a checkpoint, or its towers are not of one CLIP.
    """
    learned = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and name.startswith(('neck.', 'decode_head.'))]
    if learned:
        raise ValueError(f'this model learns {len(learned)} tensors beside its backbone '
                         f'({learned[0]}, ...); give the checkpoint that holds them')
    prompt = getattr(getattr(model, 'neck', None), 'prompt', None)
    if getattr(model.backbone, 'pretrained', None) is None or (
            isinstance(prompt, TextEmbeddings) and prompt.path is None):
        raise ValueError('the config of this model names no pretrained weights; give the '
                         'checkpoint that holds them')
    check_weights(model)
    check_text_tower(model)
    with _quiet():
        model.init_weights()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without mmengine's line for every tensor that is initialised."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)
