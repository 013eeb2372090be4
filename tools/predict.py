#!/usr/bin/env python
"""Segment pictures and videos, with the model's classes or with names of your own.

python tools/predict.py CONFIG CHECKPOINT pictures/ --out predicted
python tools/predict.py CONFIG CHECKPOINT 'holiday/*.jpg' clip.mp4 --classes "sea, sand;beach, sky"

Writes, for every picture, OUT/overlays/NAME.png, OUT/labels/NAME.png (indices of OUT/classes.json,
in their colours) and OUT/score_maps/NAME.png; for a video OUT/overlays/NAME.mp4 and a label map for
each frame in OUT/labels/NAME/. What is there already is not done again. Pictures are what OpenCV or
Pillow can read. A file that looks like a picture and cannot be read or predicted, for whatever
reason, is named and left out; the exit code is then 1.
"""

import argparse
import errno
import glob
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from denseclip_mm.apis import Prediction, Predictor
from denseclip_mm.apis.mistakes import one_line, tool_parser
from denseclip_mm.apis.pictures import check_size, draw_panels
from denseclip_mm.files import whole_file
from denseclip_mm.models.vocabulary import parse_class_names

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

READ = {ending for ending, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and Image.MIME.get(kind, '').startswith('image/')}
# Pictures that the libraries read where they are built for it, or not at all.
UNSURE = {'.arw', '.cr2', '.cr3', '.dng', '.exr', '.hdr', '.heic', '.heif', '.jxl', '.nef', '.orf',
          '.raf', '.rw2', '.svg'} - READ
PICTURES = READ | UNSURE
VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm'}
OUTPUTS = ('overlays', 'labels', 'score_maps')


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


def write_picture(path: Path, image: np.ndarray | Image.Image) -> None:
    """Write a PNG file whole or not at all."""
    with whole_file(path) as part:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(part)


def label_picture(prediction: Prediction) -> Image.Image:
    """Class indices as a PNG in the classes' colours; 16 bits without colours above 256 classes."""
    if len(prediction.class_names) > 256:
        return Image.fromarray(prediction.labels.astype(np.uint16))
    picture = Image.fromarray(prediction.labels.astype(np.uint8))
    picture.putpalette(np.asarray(prediction.palette, np.uint8).tobytes())
    return picture


def score_panels(prediction: Prediction, count: int) -> np.ndarray:
    """Picture, prediction, and the score maps of the classes that are largest in it."""
    largest = list(prediction.shares())[:count]
    return draw_panels(
        prediction.image, {'prediction': prediction.labels},
        {index: prediction.score_map[index] for index in largest},
        names=prediction.class_names, palette=prediction.palette)


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


def predict_picture(predictor: Predictor, path: Path, name: str, out: Path,
                    args: argparse.Namespace) -> None:
    """Write what is asked for and not there yet."""
    targets = {kind: out / kind / f'{name}.png' for kind in args.outputs}
    if all(target.is_file() for target in targets.values()):
        return
    prediction = predictor(readable(path))
    draw: dict[str, Callable[[], np.ndarray | Image.Image]] = {
        'overlays': lambda: prediction.overlay(args.opacity),
        'labels': lambda: label_picture(prediction),
        'score_maps': lambda: score_panels(prediction, args.num_score_maps)}
    for kind, target in targets.items():
        write_picture(target, draw[kind]())


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


def predict_video(predictor: Predictor, path: Path, name: str, out: Path,
                  args: argparse.Namespace) -> None:
    """Write overlays as a video, and the label map of every frame; score maps are for pictures."""
    if args.outputs == ['score_maps']:
        raise ValueError('score maps are drawn for pictures, not for videos')
    target = out / 'overlays' / f'{name}.mp4'
    done = out / 'labels' / name / 'done'
    if ('overlays' not in args.outputs or target.is_file()) and (
            'labels' not in args.outputs or done.is_file()):
        return
    writer = None
    with ExitStack() as stack:
        for number, (frame, rate) in enumerate(
                tqdm(frames_of(path), desc=name, unit='frame', leave=False)):
            prediction = predictor(frame)
            if 'labels' in args.outputs:
                write_picture(done.parent / f'{number:06d}.png', label_picture(prediction))
            if 'overlays' in args.outputs:
                if writer is None:
                    part = stack.enter_context(whole_file(target))
                    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*'mp4v'), rate,
                                             frame.shape[1::-1])
                    stack.callback(writer.release)
                    if not writer.isOpened():
                        raise ValueError('this OpenCV cannot write mp4 videos; leave out overlays')
                writer.write(np.ascontiguousarray(prediction.overlay(args.opacity)[..., ::-1]))
        if writer is not None:
            writer.release()
            written = cv2.VideoCapture(str(part))
            if sum(iter(written.grab, False)) != number + 1:  # OpenCV says nothing of a full disk
                raise OSError(errno.ENOSPC, 'the video could not be written whole', str(target))
    if 'labels' in args.outputs:
        done.touch()


def claim(out: Path, predictor: Predictor, args: argparse.Namespace) -> None:
    """Write OUT/classes.json, the legend of what is in the folder.

    Raises:
        ValueError: if the folder holds results of another model or of other classes.
    """
    legend = dict(config=args.config, checkpoint=args.checkpoint, answers=predictor.answers,
                  classes=predictor.class_names, palette=[list(c) for c in predictor.palette])
    path = out / 'classes.json'
    text = json.dumps(legend, indent=1)
    if path.is_file() and path.read_text() != text:
        raise ValueError(f'{out} holds results of another model or of other classes (see {path}); '
                         'choose another --out')
    with whole_file(path) as part:
        part.write_text(text)


def _is_output(filename: str | None, out: Path) -> bool:
    return filename is not None and out.resolve() in Path(filename).resolve().parents


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('inputs', nargs='+', help='pictures, videos, folders or quoted globs')
    parser.add_argument('--out', type=Path, default=Path('predicted'), help='folder')
    parser.add_argument('--classes', help="other classes: 'cat, dog;puppy' (a;b are synonyms), a "
                        '.txt file with a name a line, or a dataset alias of mmseg')
    parser.add_argument('--ensemble', nargs=2, type=float, metavar=('OWN', 'OTHER'),
                        help='mix a decode head with fixed classes and the score map, the latter '
                        "with these weights for the head's own classes and for others: 0.35 1")
    parser.add_argument('--outputs', nargs='+', choices=OUTPUTS, help='default: all')
    parser.add_argument('--opacity', type=float, default=0.5, help='of the overlay, 0 to 1')
    parser.add_argument('--num-score-maps', type=int, default=4, help='largest classes drawn')
    parser.add_argument('--device', help='default: a GPU if there is one')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Predict all inputs."""
    args = parse_args(argv)
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    with one_line(args.traceback):
        files = find_inputs(args.inputs, args.out)
        predictor = Predictor(
            args.config, None if args.checkpoint == 'none' else args.checkpoint,
            device=args.device,
            class_names=parse_class_names(args.classes) if args.classes else None,
            ensemble=tuple(args.ensemble) if args.ensemble else None)
        if args.outputs is None:
            args.outputs = [kind for kind in OUTPUTS
                            if kind != 'score_maps' or predictor.has_score_map]
        elif 'score_maps' in args.outputs and not predictor.has_score_map:
            raise ValueError(f'the model of {args.config} has no score map')
        claim(args.out, predictor, args)
    print(f'{len(predictor.class_names)} classes, answered by the {predictor.answers}')
    broken = []
    for name, path in tqdm(files.items(), unit='file'):
        predict = predict_video if path.suffix.lower() in VIDEOS else predict_picture
        try:
            predict(predictor, path, name, args.out, args)
        except Exception as error:  # too narrow for OpenCV or the model, out of memory, ...
            if isinstance(error, OSError) and _is_output(error.filename, args.out):
                sys.exit(f'error: {error}')  # such as a full disk
            broken.append(f'{path}: {" ".join(str(error).split()) or type(error).__name__}')
            tqdm.write(f'left out: {broken[-1]}')
    print(f'wrote {len(files) - len(broken)} of {len(files)} into {args.out}')
    if broken:
        sys.exit('error: left out\n' + '\n'.join(broken))


if __name__ == '__main__':
    main()
