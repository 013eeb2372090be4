"""What a model sees in pictures, and how well names fit it.

Shapes: P pictures, R regions, K names, C embedding channels, H, W size of a picture, h, w cells.
"""

from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.open_vocabulary import neck_with_own_text
from denseclip_mm.apis.pictures import read_image

import numpy as np
import torch
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.models import EncoderDecoder
from torch import Tensor
from torch.nn import functional as F

_AT_ONCE = 8  # pictures that the image tower looks at together


def pixels_of(picture: np.ndarray | str | Path) -> np.ndarray:
    """The pixels (H, W, 3) uint8, RGB, of a file or of themselves.

    Raises:
        ValueError: if the file cannot be read, or an array is none of a picture.
    """
    if not isinstance(picture, np.ndarray):
        return read_image(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f'a picture is (H, W, 3), uint8, RGB; got {picture.shape}, '
                         f'{picture.dtype}')
    return picture


@torch.no_grad()
def look(model: EncoderDecoder, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Global (P, C) and dense (P, C, h, w) embeddings of pictures of one size."""
    pipeline = Compose([step for step in model.cfg.test_pipeline[1:]
                        if step.type != 'LoadAnnotations'])
    pairs = []
    for first in range(0, len(images), _AT_ONCE):
        data = [pipeline(LoadImageFromNDArray()(dict(img=np.ascontiguousarray(image[..., ::-1]))))
                for image in images[first:first + _AT_ONCE]]
        batch = model.data_preprocessor({key: [each[key] for each in data] for key in data[0]})
        pairs.append(model.backbone(batch['inputs'])[-1])
    return tuple(map(torch.cat, zip(*pairs, strict=True)))


@torch.no_grad()
def ask(model: EncoderDecoder, names: list[str], seen: tuple[Tensor, Tensor],
        cells_PCHW: Tensor) -> Tensor:
    """Cosines of cells with names, in pictures whose embeddings are ``seen``: (P, K, H, W)."""
    neck = neck_with_own_text(model)
    neck.set_class_names(names)
    image_PC, dense_PCHW = seen
    tokens_PNC = torch.cat([image_PC[:, :, None], dense_PCHW.flatten(2)], dim=2).mT
    return neck.score_map(neck.vocabulary, tokens_PNC, cells_PCHW).float()


def pool(dense_PCHW: Tensor, masks_RHW: np.ndarray, owners: Sequence[int]) -> Tensor:
    """The mean of the dense embedding of picture ``owners[r]`` in region r: (R, C)."""
    masks_R1HW = torch.from_numpy(masks_RHW).to(dense_PCHW)[:, None]
    shares_RN = F.interpolate(masks_R1HW, dense_PCHW.shape[2:], mode='area').flatten(1)
    shares_RN = shares_RN / shares_RN.sum(1, keepdim=True)
    return torch.einsum('rcn,rn->rc', dense_PCHW.flatten(2)[owners], shares_RN)
