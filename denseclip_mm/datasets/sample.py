"""An image and its mask, read as training would, and what is wrong with them."""

import io
import tempfile
from typing import Any

from denseclip_mm.apis.pictures import whole_picture

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import ExifTags, Image

VOID = 255  # LoadAnnotations writes it; mmseg's heads and metrics ignore it

EMPTY = "folders without images: {}; img_suffix has to be the images' ending"
NO_MASK = ('images without a mask: {}; add the masks or take the images out (a mask is named like '
           'its image, with seg_map_suffix in place of img_suffix)')
NO_IMAGE = ('masks without an image: {}; add the images or take the masks out (images that do not '
            'end with img_suffix are not seen)')
BAD_IMAGE = 'images that cannot be read: {}; write them anew'
BAD_MASK = 'masks that cannot be read: {}; write them anew'
NO_LABELS = 'masks that are not one channel of whole numbers: {}; write classes, not colours'
SIZES = 'masks of another size than their image: {}; resize them by nearest neighbour'
TURNED = ("images that EXIF turns, and their masks not: {}; turn the masks, or load images by "
          "LoadImageFromFile(color_type='color_ignore_orientation')")
CHANNELS = ("images of another number of channels than the model's mean: {}; "
            "LoadImageFromFile(color_type='color') gives three")
DEEP = ('images of more than 8 bits, which mean and std are not for: {}; write them in 8 bits, '
        'scaled by their own maximum')
TOO_LARGE = ('masks of more pixels than Pillow reads: {}; cut images and masks into tiles, or read '
             "masks of one channel by LoadAnnotations(imdecode_backend='cv2')")
HALF_TURNED = ('images that EXIF mirrors or turns upside down: {}; their masks have to be turned '
               'alike')
ALL_VOID = 'masks that are void everywhere: {}; nothing is learned from them'
WARNINGS = (HALF_TURNED, ALL_VOID)


def labels_of_values(dataset: BaseSegDataset) -> dict[int, int]:
    """What LoadAnnotations makes of each value of a file."""
    with tempfile.NamedTemporaryFile(suffix='.png') as file:
        Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(2, 0)).save(file.name)
        sample = LoadAnnotations()(dict(
            seg_map_path=file.name, label_map=dataset.label_map, seg_fields=[],
            reduce_zero_label=dataset.reduce_zero_label))
    return dict(enumerate(sample['gt_seg_map'][0].tolist()))


def read(info: dict[str, Any], loaders: tuple[LoadImageFromFile, LoadAnnotations],
         channels: int) -> tuple[dict[str, str], dict[int, int]]:
    """Read an image and its mask as training would.

    Args:
        info: their paths, as the dataset lists them.
        loaders: the steps that load them.
        channels: that the model takes.

    Returns:
        The files with problems, by message, and the mask's pixels by their value in the file.
    """
    (image, mask), (load_image, load_mask) = (info['img_path'], info['seg_map_path']), loaders
    problems, size, turn = read_image(image, load_image, channels)
    if not fileio.exists(mask, load_mask.backend_args):
        return {**problems, NO_MASK: image}, {}
    try:
        labels = mmcv.imfrombytes(fileio.get(mask, load_mask.backend_args), flag='unchanged',
                                  backend=load_mask.imdecode_backend).squeeze()
    except Image.DecompressionBombError as error:
        return {**problems, TOO_LARGE: f'{mask}: {error}'}, {}
    except Exception as error:
        return {**problems, BAD_MASK: f'{mask}: {error}'}, {}
    if labels.ndim != 2 or labels.dtype.kind not in 'biu':
        return {**problems, NO_LABELS: f'{mask}: {labels.shape} {labels.dtype}'}, {}
    if size == labels.shape[::-1] != labels.shape and turn > 4:
        problems[TURNED] = f'{mask}: {labels.shape}, its image {size}'
    elif size not in (None, labels.shape):
        problems[SIZES] = f'{mask}: {labels.shape}, its image {size}'
    elif 1 < turn < 5:
        problems[HALF_TURNED] = image
    values, pixels = np.unique(labels, return_counts=True)
    return problems, dict(zip(values.astype(int).tolist(), pixels.tolist(), strict=True))


def read_image(path: str, load_image: LoadImageFromFile,
               channels: int) -> tuple[dict[str, str], tuple[int, int] | None, int]:
    """Read an image as training would.

    Args:
        path: of the image.
        load_image: the step that loads it.
        channels: that the model takes.

    Returns:
        What is wrong with it, by message; its height and width, if it can be read; and how EXIF
        turns it: 1 as it lies, 2 to 4 mirrored or upside down, 5 to 8 on its side.
    """
    problems, size, turn = {}, None, 1
    try:
        loaded = load_image(dict(img_path=path))
        size, pixels = loaded['ori_shape'], loaded['img']
        content = fileio.get(path, load_image.backend_args)
        whole_picture(path, content)  # OpenCV, and so the training, takes damaged ones, too
        if load_image.color_type in ('color', 'grayscale'):
            turn = _orientation(content)
        problems |= _odd_pixels(pixels, content, path, channels)
    except Exception as error:  # decoders raise what they like
        problems[BAD_IMAGE] = f'{path}: {error}'
    return problems, size, turn


def _orientation(content: bytes) -> int:
    """By EXIF: 1 as it lies, 2 to 4 mirrored or upside down, 5 to 8 on its side."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a kind of file that Pillow does not know
        return 1


def _odd_pixels(pixels: np.ndarray, content: bytes, path: str, channels: int) -> dict[str, str]:
    """What is wrong with an image for mean and std of 8 bits."""
    problems, most = {}, pixels.max(initial=0)
    has = 1 if pixels.ndim == 2 else pixels.shape[2]
    if has != channels:
        problems[CHANNELS] = f'{path}: {has}'
    if most > 255:
        problems[DEEP] = f'{path}: up to {most:g}'
    elif most < 64:  # black, or 10 to 14 bits of 16, of which the upper 8 are read
        whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if whole is not None and whole.max(initial=0) > 255:
            problems[DEEP] = f'{path}: up to {whole.max():g}, read as {most:g}'
    return problems
