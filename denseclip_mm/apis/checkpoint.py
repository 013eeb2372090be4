"""Checkpoints, read as the untrusted input that they are, and taken whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from denseclip_mm.files import read_state_dict, read_tensors
from denseclip_mm.text import TextEmbeddings

from mmengine.logging import MMLogger
from mmseg.models import BaseSegmentor
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
    state, meta = read_state_dict(path)
    try:
        model.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()
                               if key.startswith(prefix)})
    except RuntimeError as error:
        raise ValueError(f'{path} is no checkpoint of this config: '
                         f'{shorten(str(error), 300)}') from None
    return meta


def newest_checkpoint(folder: str | Path) -> tuple[Path, int | None, list[str]]:
    """Find the newest checkpoint that a training can be resumed from.

    Args:
        folder: holds the checkpoints of the training.

    Returns:
        Its path, the seed of the run that wrote it, and what is the matter with those that are
        newer.

    Raises:
        FileNotFoundError: if there is none; says what is the matter with those that there are.
    """
    faults = []
    paths = [path for path in Path(folder).glob('*.pth') if not path.name.startswith('best_')]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            content = read_tensors(path)
        except (OSError, ValueError) as error:
            faults.append(str(error))
            continue
        needed = {'state_dict', 'optimizer', 'message_hub', 'meta'}
        if isinstance(content, dict) and needed <= content.keys() and isinstance(
                content['meta'], dict):
            return path, content['meta'].get('seed'), faults
        faults.append(f'{path} is no checkpoint to resume from: it holds no state of an optimiser')
    raise FileNotFoundError('; '.join(
        [f'there is no checkpoint to resume from in {str(folder)!r} (looked from {Path.cwd()}); '
         'without --resume the training starts anew', *faults]))


def start_zero_shot(model: BaseSegmentor) -> None:
    """Load the pretrained weights of a model that needs no training.

    Raises:
        FileNotFoundError: if the weights are not to be had.
        ValueError: if its neck or head has something to learn, or weights or text embeddings are in
            a checkpoint.
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
