"""CLIP weights, read from any layout, and copied into a tower only if every tensor fits."""

import logging
from pathlib import Path
from textwrap import shorten
from typing import Any

from denseclip_mm.clip.config import clip_config, traits
from denseclip_mm.clip.layouts import to_open_clip
from denseclip_mm.clip.sources import parts_of, weights_file
from denseclip_mm.files import UnreadableFileError, read_state_dict, reading
from denseclip_mm.positions import resize_position_table
from denseclip_mm.tensors import check_finite, check_kinds
from denseclip_mm.torchscript import is_torchscript, read_archive

import open_clip
import torch
from torch import Tensor, nn

# Tensors of OpenAI's own archives that describe the model; no other CLIP file carries them.
_OPENAI_MARKS = ('input_resolution', 'context_length', 'vocab_size')
_POSITIONS = 'positional_embedding'
_WHAT = 'file of CLIP weights'


def load_tower(tower: nn.Module, part: str, *, model: str | dict[str, Any], pretrained: str,
               grid: tuple[int, int] | None = None, unused: tuple[str, ...] = ()) -> None:
    """Fill a tower with pretrained weights, all of them or none.

    Args:
        tower: open_clip's image or text tower.
        part: ``'visual'`` or ``'text'``.
        model: as in :func:`clip_config`.
        pretrained: a tag of open_clip; a file: OpenAI's ``.pt`` archive, or a state dict by the
            names of open_clip or of Hugging Face's transformers, bare, wrapped or in a checkpoint
            of a training; the list of its parts (``.index.json``); a folder with such a file, also
            as ``'local-dir:FOLDER'``; ``'hf-hub:ORGANISATION/NAME'``; or ``'demo'``, the weights of
            ``DemoCLIP``.
        grid: the grid that an image tower's position table is resized to.
        unused: prefixes of weights that the tower was built without.

    Raises:
        FileNotFoundError: if neither tag, file nor folder, or the weights cannot be fetched.
        ValueError: if the weights are of another architecture, context length, activation or kind
            of number, NaN, infinite or quantised, or the file is not CLIP weights.
    """
    whole = read_weights(model, pretrained)
    prefix = f'{part}.'
    state = {key.removeprefix(prefix): value for key, value in whole.items()
             if key.startswith(prefix) and not key.removeprefix(prefix).startswith(unused)}
    if not state:
        raise ValueError(f'{pretrained!r} holds no {part} tower of a CLIP; its tensors are '
                         f'{shorten(", ".join(whole), 120)}')
    check_finite(state, pretrained)  # quantised ones bring more tensors, too
    own = {key: value for key, value in tower.state_dict().items()
           if not key.endswith('position_grid')}  # which is ours, not CLIP's
    check_kinds(state, own, pretrained)
    table = next((key for key in state if key.endswith(_POSITIONS)), None)
    if grid is not None and table is not None:
        state[table] = resize_position_table(state[table].float(), grid)

    faults = [f'{key} is missing' for key in own if key not in state]
    faults += [f'{key} is not part of the model' for key in state if key not in own]
    faults += [f'{key} is {tuple(state[key].shape)}, the model has {tuple(own[key].shape)}'
               for key in own if key in state and state[key].shape != own[key].shape]
    name = model if isinstance(model, str) else 'the given model config'
    if part == 'text' and (length := _other_length(state, own)):
        raise ValueError(
            f'{pretrained!r} was trained with a context of {length} tokens, the text tower of '
            f'{name} takes {len(own[_POSITIONS])}; give as model the open_clip config with '
            f'text_cfg.context_length={length}')
    if faults:
        raise ValueError(
            f'{pretrained!r} does not hold the {part} tower of {name}: {len(faults)} tensors do '
            f'not fit ({"; ".join(faults[:3])}); name the model that these weights belong to')
    tower.load_state_dict(state)


def read_weights(model: str | dict[str, Any], pretrained: str) -> dict[str, Tensor]:
    """Read CLIP weights as open_clip names them, the text tower under ``text.``.

    Args and errors are those of :func:`load_tower`.
    """
    quick_gelu = bool(clip_config(model).get('quick_gelu', False))
    trained_quick_gelu = traits(model, pretrained).get('quick_gelu')
    if trained_quick_gelu is not None:  # before they are fetched
        _check_activation(model, pretrained, quick_gelu, trained_quick_gelu)
        return read_file(weights_file(model, pretrained))[0]
    state, trained_quick_gelu = read_file(weights_file(model, pretrained))
    if trained_quick_gelu is None:  # what was fetched from the hub is described there
        trained_quick_gelu = traits(model, pretrained).get('quick_gelu')
    if trained_quick_gelu is not None:
        _check_activation(model, pretrained, quick_gelu, trained_quick_gelu)
    elif isinstance(model, str) and (twin := _twin(model)):
        mine, other = ('QuickGELU', 'GELU') if quick_gelu else ('GELU', 'QuickGELU')
        logging.getLogger(__name__).warning(
            '%s does not tell with which activation it was trained, and model=%r computes %s; if '
            'it was %s, as in %s, use model=%r', pretrained, model, mine, other,
            "most of open_clip's own weights" if quick_gelu else "OpenAI's weights", twin)
    return state


def _other_length(state: dict[str, Tensor], own: dict[str, Tensor]) -> int | None:
    """The context length of weights, if it alone keeps their position table from fitting."""
    theirs, ours = (tower.get(_POSITIONS, torch.empty(0)).shape for tower in (state, own))
    return theirs[0] if theirs[1:] == ours[1:] and theirs[:1] != ours[:1] else None


def _twin(model: str) -> str | None:
    """The name of the model with the other activation, if there is one."""
    twin = (model.removesuffix('-quickgelu') if model.endswith('-quickgelu')
            else f'{model}-quickgelu')
    return twin if twin in open_clip.list_models() else None


def _check_activation(model: str | dict[str, Any], pretrained: str, quick_gelu: bool,
                      trained_quick_gelu: bool) -> None:
    if quick_gelu == trained_quick_gelu:
        return
    kind = {True: 'QuickGELU', False: 'GELU'}
    cure = f'set quick_gelu={trained_quick_gelu} in the model config'
    if isinstance(model, str) and (twin := _twin(model)):
        cure = f'use model={twin!r}'
    raise ValueError(f'{pretrained!r} was trained with {kind[trained_quick_gelu]}, but model '
                     f'{model!r} computes {kind[quick_gelu]}; {cure}')


def read_file(path: str | Path) -> tuple[dict[str, Tensor], bool | None]:
    """Read a file of CLIP weights: OpenAI's TorchScript archive, or a state dict.

    Returns:
        The tensors by open_clip's names, and whether they were trained with QuickGELU (None if the
        file does not tell).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is something else.
    """
    path = Path(path).expanduser()
    with reading(path, _WHAT):
        state = read_archive(path) if is_torchscript(path) else None
    if state is None:
        state = {}
        for part in [path.with_name(name) for name in parts_of(path)] or [path]:
            state |= read_state_dict(part, _WHAT)[0]
        quick_gelu = True if any(mark in state for mark in _OPENAI_MARKS) else None
    else:  # only OpenAI publishes CLIP this way, always with QuickGELU
        quick_gelu = True
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} is no {_WHAT}: it holds other things than tensors')
    state = {key: value for key, value in state.items() if key not in _OPENAI_MARKS}
    try:
        return to_open_clip(state), quick_gelu
    except ValueError as error:
        raise UnreadableFileError(f'{path} is no {_WHAT}: {error}') from None
