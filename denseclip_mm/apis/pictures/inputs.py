"""Pictures and videos that are found in folders, and read."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from denseclip_mm.apis.pictures import whole_picture

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


def files_below(folder: Path) -> list[Path]:
    """Whatever is no folder in a folder and those below it, links to folders among them, sorted.

    A folder that is found again by a link, such as in a circle, is looked into once; parts of
    files, which a killed tool leaves behind, are left out.
    """
    found, seen, folders = [], set(), [folder]
    while folders:
        folder = folders.pop(0)
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith('.part-'))
        found += [path for path in inside if not path.is_dir()]
        below = [path for path in inside if path.is_dir()]
        folders = [*(path for path in below if not path.is_symlink()), *folders,
                   *(path for path in below if path.is_symlink())]
    return sorted(found)


def is_text(path: Path) -> bool:
    """Whether a path is text in UTF-8: OpenCV ends the process if it is not."""
    return str(path).encode(errors='ignore') == os.fsencode(path)


def find_inputs(inputs: list[str], out: Path) -> tuple[dict[str, Path], dict[Path, str]]:
    """Files by the name that their outputs get: the path below a folder, without its ending.

    What lies in ``out`` is no input.

    Returns:
        The files; and what looks like one and is not to be read, with the reason: what is no
        regular file, which may have no end, and names that are no text.

    Raises:
        ValueError: if an input matches nothing, or two files would have the same outputs.
    """
    files: dict[str, Path] = {}
    faults: dict[Path, str] = {}
    for given in inputs:
        root = Path(given)
        if root.is_file():
            found, root = [root], root.parent
        else:
            pattern = given[len(root.anchor):]  # whose ** follows no links, so that it ends
            matches = files_below(root) if root.is_dir() else (
                path for path in Path(root.anchor).glob(pattern) if not path.is_dir())
            found = sorted(path for path in matches if path.suffix.lower() in PICTURES | VIDEOS
                           and out.resolve() not in Path(os.path.realpath(path)).parents)
            root = root if root.is_dir() else None
        if not found:
            raise ValueError(f'{given!r} is no file, no folder with pictures or videos, and '
                             f'matches none (looked from {Path.cwd()})')
        for path in found:
            if not path.is_file() or not is_text(path):
                faults[path] = ('its name is no text in UTF-8; rename it' if path.is_file() else
                                'it is no regular file')
                continue
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
    return files, faults


def readable(path: Path) -> Path | np.ndarray:
    """The path of a picture that OpenCV reads, as the config's loading does; else the pixels.

    They are Pillow's, (H, W, 3) uint8, RGB. A path, too, if neither can: loading then says why.

    Raises:
        ValueError: if Pillow alone knows its kind, and it is not whole.
    """
    if cv2.haveImageReader(str(path)):
        return path
    picture = whole_picture(path)
    return path if picture is None else np.asarray(
        ImageOps.exif_transpose(picture).convert('RGB'))


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
