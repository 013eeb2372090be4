"""Pictures as files of strangers."""

import struct
import zlib
from pathlib import Path

from denseclip_mm.apis import pictures
from denseclip_mm.apis.pictures import load_image, read_image

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header says this size."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + check
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))
    return path


@pytest.mark.parametrize('size', [(10**5, 10**5), (30_000, 30_000), (178_956_971, 1)])
def test_a_header_that_says_too_many_pixels(size, tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', None)  # not even tried
    with pytest.raises(ValueError, match=r'a\.png has more than 178,956,970 pixels; cut it into'):
        read_image(png_of_size(tmp_path / 'a.png', *size))
    assert not recwarn.list


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'text.png').write_text('hello')
    for name in ('empty', 'text'):
        with pytest.raises(ValueError) as error:
            read_image(tmp_path / f'{name}.png')
        assert str(error.value).startswith(f'{tmp_path}/{name}.png is no picture that LoadImage')
    with pytest.raises(ValueError, match=r'none\.png is no picture that .*No such file'):
        read_image(tmp_path / 'none.png')


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_32_bits(dtype, tmp_path):
    """Which OpenCV reads unchanged alone."""
    Image.fromarray(np.ones((3, 4), dtype)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=r'a\.tif is no picture that .* 32 bits a channel; save'):
        read_image(tmp_path / 'a.tif')
    step = LoadImageFromFile(color_type='unchanged')
    assert load_image(tmp_path / 'a.tif', step)['img'].tolist() == np.ones((3, 4)).tolist()


def test_a_picture_of_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, 'MOST_PIXELS', 12)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((3, 4, 3), 7, np.uint8))
    assert read_image(tmp_path / 'a.png').shape == (3, 4, 3)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((3, 5, 3), 7, np.uint8))
    with pytest.raises(ValueError, match='has more than 12 pixels'):
        read_image(tmp_path / 'a.png')
