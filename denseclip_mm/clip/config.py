"""What is known of a CLIP beside its weights: the model's config, and how it was trained.

From open_clip's lists, and from the JSON files of a folder, which are read as untrusted input.
"""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from denseclip_mm.clip.hub import HUB, LOCAL, from_hub
from denseclip_mm.clip.sizes import check_sizes
from denseclip_mm.clip.sources import CONFIG, DEMO, NAMES, folder_of, is_place, tag_of
from denseclip_mm.torchscript import is_torchscript

import open_clip

open_clip.add_model_config(DEMO / 'DemoCLIP.json')  # open_clip learns model='DemoCLIP'

_OPENAI = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)


def clip_config(model: str | dict[str, Any]) -> dict[str, Any]:
    """The open_clip model config of a name, or the given config itself.

    Args:
        model: a name such as ``'RN50-quickgelu'``; ``'local-dir:FOLDER'`` or
            ``'hf-hub:ORGANISATION/NAME'``, whose ``open_clip_config.json`` is read; or a dict with
            ``embed_dim``, ``vision_cfg``, ``text_cfg`` and optionally ``quick_gelu``.

    Raises:
        FileNotFoundError: if there is no such folder, or no such file in it, or it cannot be
            fetched.
        ValueError: if open_clip has no model of that name, or the config lacks a key, or has a size
            that is none or beyond all bounds.

    Examples:
        >>> clip_config('RN50-quickgelu')['vision_cfg']['layers']
        [3, 4, 6, 3]
    """
    if isinstance(model, str) and not is_place(model):
        config = open_clip.get_model_config(model)
        if config is None:
            raise ValueError(f'open_clip has no model {model!r}; {_hint(model)}')
        return config
    where = f'the config of {model!r}' if isinstance(model, str) else 'the open_clip model config'
    if isinstance(model, str):
        model = (_local_config if model.startswith(LOCAL) else _hub_config)(model)
        model = _dict(model.get('model_cfg', model))
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - model.keys()
    if missing:
        raise ValueError(f'{where} lacks {sorted(missing)}; it needs embed_dim, vision_cfg and '
                         'text_cfg as in open_clip/model_configs/*.json')
    check_sizes(model, where)
    return deepcopy(dict(model))


def traits(model: str | dict[str, Any], pretrained: str) -> dict[str, Any]:
    """What is known of weights beside their tensors, without fetching anything.

    Args:
        model: as of :func:`denseclip_mm.clip.load_tower`.
        pretrained: likewise.

    Returns:
        ``quick_gelu``: whether that is the activation; ``mean`` and ``std`` of RGB in [0, 1]; what
        is not known is left out.

    Raises:
        ValueError: if a JSON file of a folder is none.
    """
    if pretrained == 'demo':
        return dict(quick_gelu=False, **_OPENAI)
    path = Path(pretrained).expanduser()
    if path.is_file():
        if is_torchscript(path):  # only OpenAI publishes CLIP this way
            return dict(quick_gelu=True, **_OPENAI)
        return _described(path.parent) if path.name in NAMES else {}
    if tag := tag_of(model, pretrained):
        return {'quick_gelu': bool(tag.get('quick_gelu')),
                **{key: tuple(tag[key]) for key in ('mean', 'std') if key in tag}}
    folder = folder_of(pretrained)
    return {} if folder is None else _described(folder)


def normalisation(model: str | dict[str, Any],
                  pretrained: str | None) -> dict[str, tuple[float, float, float]] | None:
    """Mean and standard deviation, of RGB in [0, 1], that CLIP weights were trained with.

    Args:
        model: as in :func:`clip_config`.
        pretrained: as in :func:`denseclip_mm.clip.load_tower`, or None.

    Returns:
        ``mean`` and ``std``; None for random weights and for those that do not tell.

    Examples:
        >>> normalisation('ViT-B-16-SigLIP', 'webli')
        {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
    """
    known = traits(model, pretrained) if pretrained else {}
    return {key: known[key] for key in ('mean', 'std') if key in known} or None


def normalisations(model: str | dict[str, Any]) -> list[tuple[tuple[float, ...], ...]]:
    """The pairs of mean and standard deviation of the weights that open_clip knows of a model.

    Examples:
        >>> len(normalisations('ViT-L-14')), len(normalisations('RN50'))
        (2, 1)
    """
    tags = open_clip.list_pretrained_tags_by_model(model) if isinstance(model, str) else []
    return sorted({tuple(normalisation(model, tag)[key] for key in ('mean', 'std'))
                   for tag in tags})


def _hint(model: str) -> str:
    """What an unknown name was perhaps meant to be."""
    if Path(model).expanduser().is_dir():
        return f"for a folder write '{LOCAL}{model}'"
    near = [name for name in open_clip.list_models()
            if name.lower().startswith(model.lower()[:4])]
    return (f'similar names: {", ".join(near)}' if near else
            'open_clip.list_models() lists the names it has')


def _local_config(model: str) -> dict[str, Any]:
    folder = Path(model.removeprefix(LOCAL)).expanduser()
    if (folder / CONFIG).is_file():
        return _read_json(folder / CONFIG)
    cure = f' (looked from {Path.cwd()})'
    if (folder / 'config.json').is_file():
        cure = ("; of a folder of Hugging Face's transformers, give the path as pretrained=, and "
                'as model= the name that open_clip has for the model')
    raise FileNotFoundError(f'model={model!r}: there is no {folder / CONFIG}{cure}')


@cache
def _hub_config(model: str) -> dict[str, Any]:
    return _read_json(from_hub(model.removeprefix(HUB), (CONFIG, )))


def _described(folder: Path) -> dict[str, Any]:
    """What the JSON files of a folder say of the weights in it."""
    if (folder / CONFIG).is_file():
        content = _read_json(folder / CONFIG)
        model = _dict(content.get('model_cfg', content))
        return dict(quick_gelu=bool(model.get('quick_gelu')),
                    **_pixels(_dict(content.get('preprocess_cfg')), ''))
    known: dict[str, Any] = {}
    if (folder / 'config.json').is_file():  # of transformers
        content = _read_json(folder / 'config.json')
        usual = dict(clip='quick_gelu', siglip='gelu').get(str(content.get('model_type')))
        if usual is not None:
            known['quick_gelu'] = 'quick_gelu' in [
                _dict(content.get(part)).get('hidden_act', usual)
                for part in ('text_config', 'vision_config')]
    if (folder / 'preprocessor_config.json').is_file():
        known |= _pixels(_read_json(folder / 'preprocessor_config.json'), 'image_')
    return known


def _pixels(content: dict[str, Any], prefix: str) -> dict[str, tuple[float, ...]]:
    found = {key: content.get(prefix + key) for key in ('mean', 'std')}
    return {key: tuple(numbers) for key, numbers in found.items()
            if isinstance(numbers, list) and len(numbers) == 3
            and all(isinstance(number, int | float) and 0 <= number <= 1 for number in numbers)}


def _dict(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no JSON ({error})') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not a config')
    return content
