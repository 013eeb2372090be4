"""Whether a model uses its CLIP as it was trained: its pixels, and both towers of one CLIP."""

from pathlib import Path

from denseclip_mm.backbones.tower import CLIPTower
from denseclip_mm.clip import normalisation, normalisations
from denseclip_mm.models.neck import PixelTextNeck

from mmengine.logging import MMLogger
from torch import nn


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
    image, neck = getattr(model, 'backbone', None), getattr(model, 'neck', None)
    text = neck.text_encoder if isinstance(neck, PixelTextNeck) else None
    if text is None or not isinstance(image, CLIPTower) or image.pretrained is None:
        return
    cure = ('' if isinstance(image.model, dict) else f'neck.text_encoder.model={image.model!r}, '
            ) + f'neck.text_encoder.pretrained={image.pretrained!r}'
    if text.pretrained is None:
        raise ValueError('neck.text_encoder.pretrained is None, so the text tower is random, but '
                         f'the backbone has the weights {image.pretrained!r}; write {cure}')
    if text.model != image.model or _file(text.pretrained) != _file(image.pretrained):
        raise ValueError(
            f'the text tower is {text.pretrained!r} of {text.model!r}, the backbone '
            f'{image.pretrained!r} of {image.model!r}; two CLIPs share no embeddings, write {cure}')


def _of_255(numbers: tuple[float, ...]) -> list[float]:
    return [round(255 * number, 4) for number in numbers]


def _file(pretrained: str) -> str:
    """A file by its whole path; a tag as it is."""
    path = Path(pretrained).expanduser()
    return str(path.resolve()) if path.is_file() else pretrained
