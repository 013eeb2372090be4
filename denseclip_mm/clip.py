"""CLIP towers and their weights, by open_clip's names.

The only file that knows how open_clip describes, fetches and stores a model. Towers are built
empty; weights are read later, checked whole, and copied only if every tensor fits.
"""

import logging
from pathlib import Path
from typing import Any

from denseclip_mm.files import check_finite, read_state_dict, reading
from denseclip_mm.positions import resize_position_table
from denseclip_mm.torchscript import is_torchscript, read_archive

import open_clip
from torch import Tensor, nn

# The small CLIP that the package carries; open_clip learns its config, model='DemoCLIP'.
_DEMO = Path(__file__).parent / 'demo'
open_clip.add_model_config(_DEMO / 'DemoCLIP.json')

# Tensors of OpenAI's own archives that describe the model; no other CLIP file carries them.
_OPENAI_MARKS = ('input_resolution', 'context_length', 'vocab_size')
_WHAT = 'file of CLIP weights'


def clip_config(model: str | dict[str, Any]) -> dict[str, Any]:
    """The open_clip model config of a name, or the given config itself.

    Args:
        model: a name such as ``'RN50-quickgelu'``, or a dict with ``embed_dim``, ``vision_cfg``,
            ``text_cfg`` and optionally ``quick_gelu``.

    Raises:
        ValueError: if open_clip has no model of that name, or the dict lacks a key.

    Examples:
        >>> clip_config('RN50-quickgelu')['vision_cfg']['layers']
        [3, 4, 6, 3]
    """
    if isinstance(model, str):
        config = open_clip.get_model_config(model)
        if config is None:
            near = [name for name in open_clip.list_models()
                    if name.lower().startswith(model.lower()[:4])]
            raise ValueError(
                f'open_clip has no model {model!r}; '
                + (f'similar names: {", ".join(near)}' if near else
                   'open_clip.list_models() lists the names it has'))
        return config
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - model.keys()
    if missing:
        raise ValueError(f'the open_clip model config lacks {sorted(missing)}; it needs '
                         'embed_dim, vision_cfg and text_cfg as in open_clip/model_configs/*.json')
    return dict(model)


def load_tower(tower: nn.Module, part: str, *, model: str | dict[str, Any], pretrained: str,
               grid: tuple[int, int] | None = None, unused: tuple[str, ...] = ()) -> None:
    """Fill a tower with pretrained weights, all of them or none.

    Args:
        tower: open_clip's image or text tower.
        part: ``'visual'`` or ``'text'``.
        model: as in :func:`clip_config`.
        pretrained: an open_clip tag, an OpenAI ``.pt`` archive, an open_clip state dict, or
            ``'demo'``, the weights of ``DemoCLIP`` that the package carries.
        grid: the grid that an image tower's position table is resized to.
        unused: prefixes of weights that the tower was built without.

    Raises:
        FileNotFoundError: if neither tag nor file, or the weights cannot be fetched.
        ValueError: if the weights are of another architecture or another activation, NaN or
            infinite, or the file is not CLIP weights.
    """
    state = read_weights(model, pretrained)
    prefix = f'{part}.'
    state = {key.removeprefix(prefix): value for key, value in state.items()
             if key.startswith(prefix) and not key.removeprefix(prefix).startswith(unused)}
    table = next((key for key in state if key.endswith('positional_embedding')), None)
    if grid is not None and table is not None:
        state[table] = resize_position_table(state[table].float(), grid)

    own = {key: value for key, value in tower.state_dict().items()
           if not key.endswith('position_grid')}  # which is ours, not CLIP's
    faults = [f'{key} is missing' for key in own if key not in state]
    faults += [f'{key} is not part of the model' for key in state if key not in own]
    faults += [f'{key} is {tuple(state[key].shape)}, the model has {tuple(own[key].shape)}'
               for key in own if key in state and state[key].shape != own[key].shape]
    if faults:
        name = model if isinstance(model, str) else 'the given model config'
        raise ValueError(
            f'{pretrained!r} does not hold the {part} tower of {name}: {len(faults)} tensors do '
            f'not fit ({"; ".join(faults[:3])}); name the model that these weights belong to')
    check_finite(state, pretrained)
    tower.load_state_dict(state)


def read_weights(model: str | dict[str, Any], pretrained: str) -> dict[str, Tensor]:
    """Read CLIP weights as open_clip names them, the text tower under ``text.``.

    Args and errors are those of :func:`load_tower`.
    """
    quick_gelu = bool(clip_config(model).get('quick_gelu', False))
    path = Path(pretrained).expanduser()
    if pretrained == 'demo':
        state, trained_quick_gelu = read_file(_DEMO / 'demo_clip.pt')[0], False
    elif path.is_file():
        state, trained_quick_gelu = read_file(path)
    else:
        tag = _pretrained_tag(model, pretrained)
        trained_quick_gelu = bool(tag.get('quick_gelu', False))
        _check_activation(model, pretrained, quick_gelu, trained_quick_gelu)
        state, _ = read_file(_fetch(tag, model, pretrained))
    if trained_quick_gelu is not None:
        _check_activation(model, pretrained, quick_gelu, trained_quick_gelu)
    elif f'{model}-quickgelu' in open_clip.list_models():
        logging.getLogger(__name__).warning(
            '%s does not tell with which activation it was trained, and model=%r computes GELU; if '
            "it was QuickGELU, as in OpenAI's weights, use model='%s-quickgelu'", pretrained, model,
            model)
    return state


def normalisation(model: str | dict[str, Any],
                  pretrained: str | None) -> dict[str, tuple[float, float, float]] | None:
    """Mean and standard deviation, of RGB in [0, 1], that CLIP weights were trained with.

    Args:
        model: as in :func:`clip_config`.
        pretrained: as in :func:`load_tower`, or None.

    Returns:
        ``mean`` and ``std``; None for random weights and for a state dict, which does not tell.

    Examples:
        >>> normalisation('ViT-B-16-SigLIP', 'webli')
        {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
    """
    path = Path(pretrained or '').expanduser()
    if pretrained == 'demo' or (pretrained and path.is_file() and is_torchscript(path)):
        return dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    if isinstance(model, str) and pretrained and not path.is_file():
        tag = open_clip.get_pretrained_cfg(model, pretrained)
        return {key: tuple(tag[key]) for key in ('mean', 'std') if key in tag}
    return None


def normalisations(model: str | dict[str, Any]) -> list[tuple[tuple[float, ...], ...]]:
    """The pairs of mean and standard deviation of the weights that open_clip knows of a model.

    Examples:
        >>> len(normalisations('ViT-L-14')), len(normalisations('RN50'))
        (2, 1)
    """
    tags = open_clip.list_pretrained_tags_by_model(model) if isinstance(model, str) else []
    return sorted({tuple(normalisation(model, tag)[key] for key in ('mean', 'std'))
                   for tag in tags})


def _check_activation(model: str | dict[str, Any], pretrained: str, quick_gelu: bool,
                      trained_quick_gelu: bool) -> None:
    if quick_gelu == trained_quick_gelu:
        return
    kind = {True: 'QuickGELU', False: 'GELU'}
    cure = f'set quick_gelu={trained_quick_gelu} in the model config'
    if isinstance(model, str):
        other = model + '-quickgelu' if trained_quick_gelu else model.removesuffix('-quickgelu')
        if other != model and other in open_clip.list_models():
            cure = f'use model={other!r}'
    raise ValueError(f'{pretrained!r} was trained with {kind[trained_quick_gelu]}, but model '
                     f'{model!r} computes {kind[quick_gelu]}; {cure}')


def _pretrained_tag(model: str | dict[str, Any], pretrained: str) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(model) if isinstance(model, str) else []
    if isinstance(model, str) and open_clip.is_pretrained_cfg(model, pretrained):
        return open_clip.get_pretrained_cfg(model, pretrained)
    raise FileNotFoundError(
        f'pretrained={pretrained!r} is neither a file nor one of the tags that open_clip has for '
        f'{model!r} ({", ".join(tags) if tags else "none"})')


def _fetch(tag: dict[str, Any], model: str, pretrained: str) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # whatever a hub client or a socket raises, the cure is the same
        source = tag.get('hf_hub') or tag.get('url')
        raise FileNotFoundError(
            f'the weights {pretrained!r} of {model!r} could not be fetched from {source} '
            f'({type(error).__name__}). Without a network: fetch them on a machine that has one '
            f'(python -c "import open_clip; open_clip.create_model({model!r}, '
            f'pretrained={pretrained!r})"), copy the file, and give its path as pretrained=') \
            from error


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
        if is_torchscript(path):  # only OpenAI publishes CLIP this way, always with QuickGELU
            return _by_tower(read_archive(path)), True
    state, _ = read_state_dict(path, _WHAT)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path} is no {_WHAT}: it holds other things than tensors')
    quick_gelu = True if any(mark in state for mark in _OPENAI_MARKS) else None
    return _by_tower(state), quick_gelu


def _by_tower(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {key: value for key, value in state.items() if key not in _OPENAI_MARKS}
    return open_clip.model.convert_to_custom_text_state_dict(state)
