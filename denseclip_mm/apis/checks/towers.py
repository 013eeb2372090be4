"""Whether a model uses its CLIP as it was trained: its pixels, and both towers of one CLIP."""

from contextlib import suppress
from pathlib import Path

from denseclip_mm.backbones.tower import CLIPTower
from denseclip_mm.clip import (
    check_place,
    folder_of,
    normalisation,
    normalisations,
    read_file,
    weights_here,
)
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.text import CLIPTextTower

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

# Cosines of all matrices of a tower with those of the weights that it started from, or did not.
# Training changes little of them; those of networks trained apart have nothing in common.
_SAME, _OTHER = 0.5, 0.1


def check_weights(model: nn.Module) -> None:
    """Refuse towers whose pretrained weights are not to be had; nothing is fetched.

    Args:
        model: a segmentor or detector before its pretrained weights are loaded.

    Raises:
        FileNotFoundError: if they are neither a file, a folder nor a tag; says of which tower.
        ValueError: if they are a folder with several files of weights, of names of its own.
    """
    towers = dict(backbone=getattr(model, 'backbone', None))
    towers['neck.text_encoder'] = getattr(getattr(model, 'neck', None), 'text_encoder', None)
    for name, tower in towers.items():
        if isinstance(tower, CLIPTower | CLIPTextTower) and tower.pretrained is not None:
            try:
                check_place(tower.model, tower.pretrained)
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(f'{name}: {error}') from None


def check_pixels(model: nn.Module) -> None:
    """Refuse a model that gets its pixels otherwise than its CLIP weights were trained with.

    Where the weights are a file that does not tell, a warning says what the model gets, and what
    the weights that open_clip knows of this model were trained with.

    Args:
        model: a segmentor; one without a CLIP image tower, or without weights, is passed over.

    Raises:
        ValueError: if mean or standard deviation of its data preprocessor are others; says which.
    """
    pixels, tower = getattr(model, 'data_preprocessor', None), getattr(model, 'backbone', None)
    if (not isinstance(tower, CLIPTower) or getattr(pixels, 'mean', None) is None
            or tower.pretrained is None):
        return
    got = {key: [round(number, 4) for number in getattr(pixels, key).flatten().tolist()]
           for key in ('mean', 'std')}
    trained = normalisation(tower.model, tower.pretrained)
    if trained is None:
        known = normalisations(tower.model)
        MMLogger.get_current_instance().warning(
            '%s does not tell with which mean and standard deviation its CLIP was trained; '
            'data_preprocessor has mean=%s, std=%s%s', tower.pretrained, got['mean'], got['std'],
            f'; the weights of {tower.model!r} that open_clip knows have '
            + ' or '.join(f'mean={_of_255(mean)}, std={_of_255(std)}' for mean, std in known)
            if known else '')
    for key, wanted in (trained or {}).items():
        wanted = _of_255(wanted)
        if len(got[key]) != 3 or any(
                abs(a - b) > 0.5 for a, b in zip(got[key], wanted, strict=True)):
            raise ValueError(f'data_preprocessor has {key}={got[key]}, but the weights '
                             f'{tower.pretrained!r} of {tower.model!r} were trained with {wanted}; '
                             f'write model.data_preprocessor.{key}={wanted}')


def check_text_tower(model: nn.Module) -> None:
    """Refuse a text tower that is of another CLIP than the image tower, or random.

    Their embeddings would have nothing to do with each other, and no figure would tell why.

    Args:
        model: a segmentor before its pretrained weights are loaded; one without both towers, or
            whose image tower has no pretrained weights, is passed over.

    Raises:
        ValueError: if the text tower names no weights, or those of another model or file.
    """
    towers = _towers(model)
    if towers is None:
        return
    image, text = towers
    cure = ('' if isinstance(image.model, dict) else f'neck.text_encoder.model={image.model!r}, '
            ) + f'neck.text_encoder.pretrained={image.pretrained!r}'
    if text.pretrained is None:
        raise ValueError('neck.text_encoder.pretrained is None, so the text tower is random, but '
                         f'the backbone has the weights {image.pretrained!r}; write {cure}')
    if text.model != image.model or _place(text.pretrained) != _place(image.pretrained):
        raise ValueError(
            f'the text tower is {text.pretrained!r} of {text.model!r}, the backbone '
            f'{image.pretrained!r} of {image.model!r}; two CLIPs share no embeddings, write {cure}')


def check_loaded_towers(model: nn.Module, path: str | Path) -> None:
    """Warn of a checkpoint with one tower of the CLIP that the backbone names, and one of another.

    Where these weights are on this machine (nothing is fetched), both towers are compared with
    them: the text tower is never trained, and an image tower that started from them stays like
    them. A checkpoint with neither tower of them says nothing, and is passed over.

    Args:
        model: a segmentor with the weights of the checkpoint; one without both towers, or whose
            image tower names no pretrained weights, is passed over.
        path: the checkpoint, for the warning.
    """
    towers, state = _towers(model), None
    with suppress(OSError, ValueError):  # of weights that the checkpoint makes unnecessary
        weights = towers and weights_here(towers[0].model, towers[0].pretrained)
        state = weights and read_file(weights)[0]
    if state is None:
        return
    image, text = towers
    likeness = dict(image=_likeness(image.tower, 'visual.', state),
                    text=_likeness(text.tower, 'text.', state))
    for mine, other in (('image', 'text'), ('text', 'image')):
        if likeness[mine] >= _SAME and likeness[other] < _OTHER:
            MMLogger.get_current_instance().warning(
                '%s has the %s tower of %r, but the %s tower of another CLIP, or a random one: two '
                'CLIPs share no embeddings, so its score maps say nothing; train it with '
                'pretrained=%r of both towers', path, mine, image.pretrained, other,
                image.pretrained)


def _towers(model: nn.Module) -> tuple[CLIPTower, CLIPTextTower] | None:
    """Both towers of a model, if its image tower names pretrained weights."""
    image, neck = getattr(model, 'backbone', None), getattr(model, 'neck', None)
    text = neck.text_encoder if isinstance(neck, PixelTextNeck) else None
    if text is None or not isinstance(image, CLIPTower) or image.pretrained is None:
        return None
    return image, text


def _likeness(tower: nn.Module, prefix: str, state: dict[str, Tensor]) -> float:
    """Cosine of a tower's matrices with those in a state dict; NaN if it has none of them."""
    products = torch.zeros(3, dtype=torch.float64)
    for key, mine in tower.state_dict().items():
        theirs = state.get(prefix + key)
        if theirs is not None and theirs.shape == mine.shape and mine.ndim > 1 and (
                'pos' not in key):  # tables of positions: resized, and alike in every CLIP
            mine, theirs = mine.flatten().float().cpu(), theirs.flatten().float()
            products += torch.stack([mine @ theirs, mine @ mine, theirs @ theirs])
    return float(products[0] / (products[1] * products[2]).sqrt())


def _of_255(numbers: tuple[float, ...]) -> list[float]:
    return [round(255 * number, 4) for number in numbers]


def _place(pretrained: str) -> str:
    """A file or folder by its whole path; a tag as it is."""
    path = Path(pretrained).expanduser()
    path = path if path.is_file() else folder_of(pretrained)
    return pretrained if path is None else str(path.resolve())


def what_it_knows(model: nn.Module) -> str:
    """What a user has to be told of the model's CLIP; nothing of one that knows photographs.

    Args:
        model: a segmentor or a detector.

    Examples:
        >>> from denseclip_mm import Predictor
        >>> what_it_knows(Predictor('configs/demo/zero_shot_scenes.py', device='cpu').model)[:46]
        'this CLIP has seen procedural scenes only: col'
    """
    if getattr(model.backbone, 'pretrained', None) != 'demo':
        return ''
    return ('this CLIP has seen procedural scenes only: coloured shapes on grounds; for '
            'photographs take configs/zero_shot/clip_vitb16.py')
