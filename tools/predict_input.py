"""Pictures and videos that predict.py finds and reads."""

import glob
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from denseclip_mm.apis.pictures import check_size

import cv2
import numpy as np
from PIL import Image, ImageOps

READ = {ending for ending, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and Image.MIME.get(kind, '').startswith('image/')}
# Pictures that the libraries read where they are built for it, or not at all.
UNSURE = {'.arw', '.cr2', '.cr3', '.dng', '.exr', '.hdr', '.heic', '.heif', '.jxl', '.nef', '.orf',
          '.raf', '.rw2', '.svg'} - READ
PICTURES = READ | UNSURE
VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm'}


def find_inputs(inputs: list[str], out: Path) -> dict[str, Path]:
    """Files by the name that their outputs get: the path below a folder, without its ending.

    What lies in ``out`` is no input.

    Raises:
        ValueError: if an input matches nothing, or two files would have the same outputs.
    """
    files: dict[str, Path] = {}
    for given in inputs:
        root = Path(given)
        if root.is_file():
            found, root = [root], root.parent
        else:
            matches = root.rglob('*') if root.is_dir() else map(
                Path, glob.glob(given, recursive=True))
            found = sorted(path for path in matches if path.suffix.lower() in PICTURES | VIDEOS
                           and out.resolve() not in path.resolve().parents)
            root = root if root.is_dir() else None
        if not found:
            raise ValueError(f'{given!r} is no file, no folder with pictures or videos, and '
                             f'matches none (looked from {Path.cwd()})')
        for path in found:
            name = path.relative_to(root or path.parent)
            if path.suffix.lower() not in UNSURE:  # a.heic beside a.jpg is no mistake
                name = name.with_suffix('')
            name = name.as_posix()
            if files.setdefault(name, path) != path:
                raise ValueError(f'{files[name]} and {path} would both be written as {name}; '
                                 'predict them into different folders')
    for name, path in files.items():
        for above in PurePosixPath(name).parents:
            if str(above) in files:
                raise ValueError(f'{files[str(above)]} and {path} would both write to {above}/; '
                                 'predict them into different folders')
    return files


def readable(path: Path) -> Path | np.ndarray:
    """The path of a picture that OpenCV reads, as the config's loading does; else the pixels.

    They are Pillow's, (H, W, 3) uint8, RGB. A path, too, if neither can: loading then says why.
    """
    if cv2.haveImageReader(str(path)):
        return path
    check_size(path)
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
    except Exception:  # damaged files raise nearly anything
        return path


def frames_of(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Frames of a video, RGB, and the rate.

    Raises:
        ValueError: if the video has none that OpenCV can read.
    """
    video = cv2.VideoCapture(str(path))
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    count = 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            count += 1
            yield frame[..., ::-1], rate
    finally:
        video.release()
    if not count:
        raise ValueError(f'{path} is no video that OpenCV can read')
