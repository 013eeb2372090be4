"""Colour prompts (CPT, Yao et al. 2021): a region is painted, and asked for by its colour.

Shapes: R regions, K names, P pictures made of one, T regions of all pictures, H, W size of a
picture, h, w cells of the dense embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path

from denseclip_mm.apis.regions.masks import read_regions
from denseclip_mm.apis.regions.scores import ask, look, pixels_of, pool
from denseclip_mm.models.vocabulary import read_class_names, split_synonyms

import numpy as np
import torch
from mmseg.models import EncoderDecoder
from torch import Tensor

# As published with CPT (Yao et al. 2021), which found them by its search.
_CPT = {'red': (240, 0, 30), 'purple': (155, 50, 210), 'yellow': (255, 255, 25),
        'blue': (0, 10, 255), 'green': (0, 255, 0)}
OPACITIES = (127 / 255, 0.8, 1.0)  # CPT's, and what the search tries


@dataclass(frozen=True)
class Colours:
    """How regions are coloured and asked for.

    Attributes:
        rgb: colours in [0, 255] by name; CPT's.
        opacity: of the colour over the picture, 0 to 1; CPT's.
        template: the question, with ``{colour}`` and ``{name}``. The model's prompt comes around
            it.

    Raises:
        ValueError: if there is no colour, or one of them, the template or the opacity is none.
    """

    rgb: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: dict(_CPT))
    opacity: float = OPACITIES[0]
    template: str = '{colour} {name}'

    def __post_init__(self) -> None:
        """Check the entries."""
        if not isinstance(self.rgb, Mapping):
            raise ValueError('colours are a dict of names with red, green and blue, got '
                             f'{self.rgb!r}')
        for name, colour in self.rgb.items():
            if (not isinstance(colour, Sequence | np.ndarray) or len(colour) != 3 or not all(
                    isinstance(part, Real) and 0 <= part <= 255 for part in colour)):
                raise ValueError(f'the colour {name!r} is {colour!r}, not red, green and blue in '
                                 '[0, 255]')
        if not self.rgb or not 0 < self.opacity <= 1:
            raise ValueError(f'regions need colours, and an opacity over 0 and up to 1; got '
                             f'{len(self.rgb)} colours and {self.opacity}')
        if self.template.count('{colour}') != 1 or self.template.count('{name}') != 1:
            raise ValueError(f'a template needs {{colour}} and {{name}} once each, got '
                             f'{self.template!r}')

    def questions(self, names: Sequence[str]) -> list[str]:
        """Every name in every colour, synonyms one by one; the names of a colour together."""
        return [';'.join(self.template.replace('{colour}', colour).replace('{name}', text)
                         for text in split_synonyms(name))
                for colour in self.rgb for name in names]


def search_colours(model: EncoderDecoder, pictures: Sequence[np.ndarray | str | Path],
                   regions: Sequence[np.ndarray | Sequence], names: str | Sequence[str], *,
                   colours: Colours | None = None,
                   opacities: Sequence[float] = OPACITIES) -> Colours:
    """Keep the colours that the model itself names right, at the opacity where it does so best.

    CPT's cross-modal prompt search (section 3.4), by contrast: regions are painted in each colour
    in turn, and the mean of the dense embedding in a region is asked for all names in all colours.
    A colour is right where its own question is the best one. No label is needed: which name a
    region has is not compared.

    Args:
        model: as in :func:`assign_regions`.
        pictures: to try the colours on.
        regions: of each picture.
        names: that will be asked.
        colours: to choose from; CPT's by default.
        opacities: to choose from.

    Returns:
        The colours that are right in more than half of the regions, at the opacity where the most
        are, and of these where the margin to the other colours is the largest.

    Raises:
        ValueError: if the model names none right, there are not two colours and a picture, or not
            as many pictures as regions; see also :func:`assign_regions`.
    """
    names, colours = read_class_names(names), colours or Colours()
    if len(colours.rgb) < 2:
        raise ValueError(f'a search compares colours, and {", ".join(colours.rgb)} is the only one')
    if not len(pictures) or len(pictures) != len(regions):
        raise ValueError(f'a search needs pictures and the regions of each, got {len(pictures)} '
                         f'pictures and regions of {len(regions)}')
    found: list[tuple[int, float, Colours]] = []
    for tried in (replace(colours, opacity=opacity) for opacity in opacities):
        margins_TC = torch.cat([_margins(model, pixels_of(picture), each, names, tried)
                                for picture, each in zip(pictures, regions, strict=True)])
        right_C = (margins_TC > 0).float().mean(0) > 0.5
        kept = dict(rgb for rgb, right in zip(tried.rgb.items(), right_C, strict=True) if right)
        if kept:
            found.append((len(kept), float(margins_TC[:, right_C].mean()),
                          replace(tried, rgb=kept)))
    if not found:
        raise ValueError(f'the model names none of the colours {", ".join(colours.rgb)} right, at '
                         f'no opacity of {", ".join(f"{each:.2f}" for each in opacities)}; '
                         "how='pool' needs no colours")
    return max(found, key=lambda each: each[:2])[2]


def paint_regions(image: np.ndarray, masks_RHW: np.ndarray, rgb: Sequence[tuple[int, int, int]],
                  opacity: float) -> np.ndarray:
    """Lay colours over regions; what is outside of them stays as it is.

    Args:
        image: (H, W, 3) uint8, RGB; it is not changed.
        masks_RHW: the regions.
        rgb: a colour for each, in [0, 255].
        opacity: 0 to 1.

    Examples:
        >>> image, masks = np.zeros((1, 2, 3), np.uint8), np.array([[[True, False]]])
        >>> paint_regions(image, masks, [(240, 0, 30)], 0.5).tolist()
        [[[120, 0, 15], [0, 0, 0]]]
    """
    painted = image.copy()
    for mask_HW, colour in zip(masks_RHW, rgb, strict=True):
        mixed = (1 - opacity) * image[mask_HW] + opacity * np.array(colour)
        painted[mask_HW] = np.round(mixed)
    return painted


def score_coloured(model: EncoderDecoder, image: np.ndarray, masks_RHW: np.ndarray,
                   names: list[str], colours: Colours) -> Tensor:
    """Cosines (K, R) of names and painted regions, in the cell of the picture that fits best."""
    groups = _groups(masks_RHW, len(colours.rgb))
    seen = look(model, (paint_regions(image, masks_RHW[group], list(colours.rgb.values())[
        :len(group)], colours.opacity) for group in groups))
    best_PCK = ask(model, colours.questions(names), seen).amax((2, 3)).unflatten(
        1, (len(colours.rgb), -1))
    scores_KR = best_PCK.new_empty((len(names), len(masks_RHW)))
    for picture, group in enumerate(groups):
        scores_KR[:, group] = best_PCK[picture, :len(group)].T
    return scores_KR


def _margins(model: EncoderDecoder, image: np.ndarray, regions: np.ndarray | Sequence,
             names: list[str], colours: Colours) -> Tensor:
    """How far the question in a region's own colour is above those in others: (R, colours)."""
    masks_RHW, rgb = read_regions(regions, image.shape[:2]), list(colours.rgb.values())
    seen = look(model, (paint_regions(image, mask_HW[None], [colour], colours.opacity)
                        for mask_HW in masks_RHW for colour in rgb))
    repeated = masks_RHW.repeat(len(rgb), 0)
    pooled_PC = pool(seen[1], repeated, range(len(repeated)))
    best_PC = ask(model, colours.questions(names), seen, pooled_PC[:, :, None, None])[
        :, :, 0, 0].unflatten(1, (len(rgb), -1)).amax(2)
    best_RCC = best_PC.unflatten(0, (-1, len(rgb)))
    own_RC = best_RCC.diagonal(dim1=1, dim2=2)
    others = best_RCC.masked_fill(torch.eye(len(rgb), dtype=torch.bool, device=best_RCC.device),
                                  -1)
    return own_RC - others.amax(2)


def _groups(masks_RHW: np.ndarray, most: int) -> list[list[int]]:
    """Regions that share a picture: so many at most, and none over another."""
    groups: list[list[int]] = []
    for index, mask_HW in enumerate(masks_RHW):
        for group in groups:
            if len(group) < most and not (masks_RHW[group] & mask_HW).any():
                group.append(index)
                break
        else:
            groups.append([index])
    return groups
