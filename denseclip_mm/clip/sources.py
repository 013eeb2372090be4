"""Where CLIP weights lie: a tag, a file, a folder or a name on the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from denseclip_mm.clip.hub import HUB, LOCAL, NoNetworkError, cached, download, from_hub
from denseclip_mm.files import UnreadableFileError

import open_clip

DEMO = Path(__file__).parents[1] / 'demo'  # the small CLIP that the package carries
CONFIG = 'open_clip_config.json'
_OPEN_CLIP = ('open_clip_model.safetensors', 'open_clip_pytorch_model.safetensors',
              'open_clip_pytorch_model.bin')
_TRANSFORMERS = ('model.safetensors', 'pytorch_model.bin')
_IN_PARTS = tuple(f'{name}.index.json' for name in _TRANSFORMERS)
_DESCRIPTIONS = (CONFIG, 'config.json', 'preprocessor_config.json')
NAMES = (*_OPEN_CLIP, *_TRANSFORMERS, *_IN_PARTS)  # in this order


def is_place(model: Any) -> bool:
    """Whether a model is named by the folder or the repository on the hub that it lies in."""
    return isinstance(model, str) and model.startswith((LOCAL, HUB))


def own_weights(model: str | dict[str, Any], pretrained: str | None) -> str | None:
    """The weights of a tower: those given, or those that the model's folder brings.

    Examples:
        >>> own_weights('local-dir:clip', None), own_weights('RN50', None)
        ('local-dir:clip', None)
    """
    return model if pretrained is None and is_place(model) else pretrained


def folder_of(name: str) -> Path | None:
    """The folder that a name stands for, if it is on this machine; nothing is fetched.

    Args:
        name: a path, ``'local-dir:FOLDER'``, or ``'hf-hub:ORGANISATION/NAME'``.
    """
    if name.startswith(HUB):
        known = cached(name.removeprefix(HUB), _DESCRIPTIONS)
        return known and known.parent
    path = Path(name.removeprefix(LOCAL)).expanduser()
    return path if path.is_dir() else None


def tokenizer_folder(model: str | dict[str, Any]) -> str | None:
    """The folder of a ``'local-dir:'`` model, if its tokenizer is in it."""
    if isinstance(model, str) and model.startswith(LOCAL) and (folder := folder_of(model)):
        return str(folder) if (folder / 'tokenizer_config.json').is_file() else None
    return None


def weights_here(model: str | dict[str, Any], pretrained: str) -> Path | None:
    """The file of weights, if it is on this machine; nothing is fetched.

    Args:
        model: as of :func:`denseclip_mm.clip.load_tower`.
        pretrained: likewise.

    Raises:
        FileNotFoundError: if they are a folder without weights.
        ValueError: if they are a folder with several files of weights, of names of its own.
    """
    if pretrained == 'demo':
        return DEMO / 'demo_clip.pt'
    if pretrained.startswith(HUB):
        return cached(pretrained.removeprefix(HUB), NAMES)
    path = Path(pretrained).expanduser()
    if path.is_file():
        return path
    if tag := tag_of(model, pretrained):
        name, _, file = tag.get('hf_hub', '').rpartition('/')
        return cached(name, (file, ) if file else _OPEN_CLIP) if name else None
    folder = folder_of(pretrained)
    return None if folder is None else _weights_in(folder)


def weights_file(model: str | dict[str, Any], pretrained: str) -> Path:
    """The file of weights, fetched if it is a tag or a name on the hub.

    Args:
        model: as of :func:`denseclip_mm.clip.load_tower`.
        pretrained: likewise.

    Raises:
        FileNotFoundError: if there is no such file, folder or tag, or it cannot be fetched.
        ValueError: if they are a folder with several files of weights, of names of its own.
    """
    check_place(model, pretrained)
    if pretrained.startswith(HUB):
        return _weights_from_hub(pretrained.removeprefix(HUB))
    tag = tag_of(model, pretrained)
    if tag and not Path(pretrained).is_file():
        return _fetch(tag, model, pretrained)
    return weights_here(model, pretrained)


def check_place(model: str | dict[str, Any], pretrained: str) -> None:
    """Refuse weights that are neither on this machine nor a name to fetch them by.

    Args:
        model: as of :func:`denseclip_mm.clip.load_tower`.
        pretrained: likewise.

    Raises:
        FileNotFoundError: if there is no such file, folder or tag.
        ValueError: if they are a folder with several files of weights, of names of its own.
    """
    if pretrained.startswith(HUB) or tag_of(model, pretrained) or weights_here(model, pretrained):
        return
    if pretrained.startswith(LOCAL):
        raise FileNotFoundError(f'there is no folder {pretrained.removeprefix(LOCAL)!r} '
                                f'(looked from {Path.cwd()})')
    tags = open_clip.list_pretrained_tags_by_model(model) if isinstance(model, str) else []
    raise FileNotFoundError(
        f'pretrained={pretrained!r} is neither a file nor one of the tags that open_clip has for '
        f'{model!r} ({", ".join(tags) if tags else "none"}), nor a folder')


def parts_of(path: Path) -> list[str]:
    """The files, beside it, that a large state dict was cut into, if this is the list of them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a list that names none, or one that lies elsewhere.
    """
    if not path.name.endswith('.index.json'):
        return []
    try:
        parts = sorted(set(json.loads(path.read_bytes())['weight_map'].values()))
        beside = all(part == Path(part).name for part in parts)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):  # other things
        parts, beside = [], True
    if not parts or not beside:
        raise UnreadableFileError(f'{path} is no list of the parts of weights: its weight_map has '
                                  'to name files beside it')
    return parts


def tag_of(model: str | dict[str, Any], pretrained: str) -> dict[str, Any]:
    """What open_clip knows of a tag; nothing if it has none of that name."""
    if isinstance(model, str) and open_clip.is_pretrained_cfg(model, pretrained):
        return open_clip.get_pretrained_cfg(model, pretrained)
    return {}


def _fetch(tag: dict[str, Any], model: str, pretrained: str) -> Path:
    hub = tag.get('hf_hub', '')
    tags = [dict(tag, hf_hub=hub + _OPEN_CLIP[0]), tag] if hub.endswith('/') else [tag]
    try:
        return download(
            tags, f'the weights {pretrained!r} of {model!r} could not be fetched from '
            f'{hub or tag.get("url")}', 'fetch them on a machine that has one (python -c "import '
            f'open_clip; open_clip.create_model({model!r}, pretrained={pretrained!r})"), copy the '
            'file, and give its path as pretrained=')
    except NoNetworkError:
        if known := weights_here(model, pretrained):
            return known
        raise


def _weights_from_hub(name: str) -> Path:
    """The weights of a repository, and what describes them beside them."""
    path = from_hub(name, NAMES)
    for part in parts_of(path):
        from_hub(name, (part, ))
    for description in _DESCRIPTIONS:
        try:
            from_hub(name, (description, ))
        except NoNetworkError:  # the weights were fetched before
            break
        except FileNotFoundError:  # none has all of them
            continue
    return path


def _weights_in(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(path for path in folder.iterdir()
                    if path.suffix in ('.safetensors', '.bin', '.pt', '.pth', '.ckpt'))
    if len(others) == 1:
        return others[0]
    names = ', '.join(path.name for path in others)
    if others:
        raise ValueError(f'{folder} holds several files of weights ({names}); give one of them')
    raise FileNotFoundError(f'{folder} holds no weights: there is no '
                            f'{", ".join(NAMES)}')
