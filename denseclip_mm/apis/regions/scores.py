"""What a model sees in pictures, and how well names fit it.

Shapes: P pictures, R regions, K names, C embedding channels, H, W size of a picture, h, w cells.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from math import ceil
from pathlib import Path

from denseclip_mm.apis.open_vocabulary import neck_of
from denseclip_mm.apis.pictures import read_image

import numpy as np
import torch
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.models import EncoderDecoder
from torch import Tensor
from torch.nn import functional as F

_AT_ONCE = 8  # pictures that the image tower looks at together; masks


def pixels_of(picture: np.ndarray | str | Path) -> np.ndarray:
    """The pixels (H, W, 3) uint8, RGB, of a file or of themselves.

    Raises:
        ValueError: if the file cannot be read, or an array is none of a picture.
    """
    if isinstance(picture, str | Path):
        return read_image(picture)
    if not isinstance(picture, np.ndarray):
        raise ValueError('a picture is a file, or an array of NumPy (H, W, 3), uint8, RGB; got a '
                         f'{type(picture).__name__}')
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f'a picture is (H, W, 3), uint8, RGB; got {picture.shape}, '
                         f'{picture.dtype}')
    return picture


@torch.no_grad()
def look(model: EncoderDecoder, images: Iterable[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Global (P, C) and dense (P, C, h, w) embeddings of pictures of one size, without padding.

    Raises:
        ValueError: if the model is a view without a config, whose test_pipeline loads pictures.
    """
    if not hasattr(model, 'cfg'):
        raise ValueError('regions need the model that a config describes; this one is a detector '
                         'under other names or an ensemble, take it as it was before')
    pipeline = Compose([step for step in model.cfg.test_pipeline[1:]
                        if step.type != 'LoadAnnotations'])
    pairs, images = [], iter(images)
    while some := [*islice(images, _AT_ONCE)]:
        data = [pipeline(LoadImageFromNDArray()(dict(img=np.ascontiguousarray(image[..., ::-1]))))
                for image in some]
        batch = model.data_preprocessor({key: [each[key] for each in data] for key in data[0]})
        image_PC, dense_PCHW = model.backbone(batch['inputs'])[-1]
        pairs.append((image_PC, cells_of_picture(
            dense_PCHW, data[0]['inputs'].shape[1:], batch['inputs'].shape[2:])))
    return tuple(map(torch.cat, zip(*pairs, strict=True)))


def cells_of_picture(cells_PCHW: Tensor, size: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Cells that cover a picture alone, without its padding (below and to the right).

    Args:
        cells_PCHW: that cover the padded picture.
        size: H, W of the picture.
        padded: those of the padded picture.

    Returns:
        The same numbers if there is no padding; cells in between else, where the border cuts some.
    """
    if tuple(size) == tuple(padded):
        return cells_PCHW
    height, width = (part / whole for part, whole in zip(size, padded, strict=True))
    cells = cells_PCHW.shape[2:]
    theta_23 = cells_PCHW.new_tensor([[width, 0, width - 1], [0, height, height - 1]])
    grid = F.affine_grid(
        theta_23.expand(len(cells_PCHW), 2, 3),
        [*cells_PCHW.shape[:2], ceil(height * cells[0]), ceil(width * cells[1])],
        align_corners=False)
    return F.grid_sample(cells_PCHW, grid, padding_mode='border', align_corners=False)


@torch.no_grad()
def ask(model: EncoderDecoder, names: list[str], seen: tuple[Tensor, Tensor],
        pooled_PCHW: Tensor | None = None) -> Tensor:
    """Cosines with names, in pictures whose embeddings are ``seen``: (P, K, H, W).

    Of the dense embedding, or of pooled ones, each of which is by itself: optimal transport would
    balance the prompts of a class over them, and takes the mean of the prompts for one alone.
    """
    neck = neck_of(model).view(names)
    image_PC, dense_PCHW = seen
    cells_PCHW = dense_PCHW if pooled_PCHW is None else pooled_PCHW
    if pooled_PCHW is not None and neck.vocabulary.synonyms == 'transport':
        neck.vocabulary.synonyms = 'mean'
    tokens_PNC = torch.cat([image_PC[:, :, None], dense_PCHW.flatten(2)], dim=2).mT
    return neck.score_map(neck.vocabulary, tokens_PNC, cells_PCHW).float()


def pool(dense_PCHW: Tensor, masks_RHW: np.ndarray, owners: Sequence[int]) -> Tensor:
    """The mean of the dense embedding of picture ``owners[r]`` in region r: (R, C)."""
    shares_RN = torch.cat([
        F.interpolate(masks_R1HW.to(dense_PCHW), dense_PCHW.shape[2:], mode='area').flatten(1)
        for masks_R1HW in torch.from_numpy(masks_RHW)[:, None].split(_AT_ONCE)])
    shares_RN = shares_RN / shares_RN.sum(1, keepdim=True)
    return torch.einsum('rcn,rn->rc', dense_PCHW.flatten(2)[owners], shares_RN)
