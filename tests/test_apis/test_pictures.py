"""Pictures as files of strangers."""

import os
import struct
import zlib
from pathlib import Path

from denseclip_mm.apis.pictures import load_image, read_image, reading, whole_picture
from denseclip_mm.apis.regions.masks import read_label_map
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import EpsImagePlugin, Image


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
    monkeypatch.setattr(reading, 'MOST_PIXELS', 12)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((3, 4, 3), 7, np.uint8))
    assert read_image(tmp_path / 'a.png').shape == (3, 4, 3)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((3, 5, 3), 7, np.uint8))
    with pytest.raises(ValueError, match='has more than 12 pixels'):
        read_image(tmp_path / 'a.png')


def damaged_tiff(path: Path) -> np.ndarray:
    """An LZW TIFF with a damaged byte, of which OpenCV makes another picture without a word."""
    pixels = draw(3, 0, 128)[0]
    content = bytearray(cv2.imencode('.tif', pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1])
    content[3000:3016] = bytes(16)
    path.write_bytes(content)
    return pixels


def test_a_picture_that_opencv_decodes_to_another(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    pixels = damaged_tiff(path)
    given = cv2.imread(str(path))
    assert given.shape == pixels.shape and np.abs(given.astype(int) - pixels).mean() > 15
    with pytest.raises(ValueError, match=r'a\.tif is no picture that Pillow can read whole, so it '
                       'is damaged: '):
        read_image(path)
    for read in (read_label_map, whole_picture):
        with pytest.raises(ValueError, match='so it is damaged'):
            read(path)
    with pytest.raises(ValueError, match='so it is damaged'):
        whole_picture('another name', path.read_bytes())


@pytest.mark.parametrize('step', [LoadImageFromFile(), LoadImageFromFile(color_type='unchanged')])
def test_what_pillow_does_not_know_is_read(step: LoadImageFromFile, tmp_path: Path) -> None:
    pixels = draw(3, 0, 128)[0]
    for name, deep in (('a.hdr', np.float32), ('b.pam', np.uint8), ('c.tif', np.int16)):
        cv2.imwrite(str(tmp_path / name), pixels.astype(deep))
        assert whole_picture(tmp_path / name) is None
        assert load_image(tmp_path / name, step)['img'].shape == (128, 128, 3)


def test_eps_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives it to Ghostscript, whatever its ending."""
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', None)
    Image.fromarray(draw(3, 0, 32)[0]).save(tmp_path / 'a.png', 'EPS')
    assert whole_picture(tmp_path / 'a.png') is None
    with pytest.raises(ValueError, match=r'a\.png is no picture that LoadImageFromFile can read'):
        read_image(tmp_path / 'a.png')


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'endless.png').symlink_to('/dev/zero')
    (tmp_path / 'folder.png').mkdir()
    for name in ('pipe', 'endless', 'folder'):
        for read in (read_image, read_label_map, whole_picture):
            with pytest.raises(ValueError, match=f'{name}.png is no regular file, so it was not r'):
                read(tmp_path / f'{name}.png')
