#!/usr/bin/env python
"""Segment pictures and videos or find their things, with the model's classes or with your own.

python tools/predict.py CONFIG CHECKPOINT pictures/ --out predicted
python tools/predict.py CONFIG CHECKPOINT 'holiday/*.jpg' clip.mp4 --classes "sea, sand;beach, sky"

Writes, for every picture, OUT/overlays/NAME.png with a legend, OUT/labels/NAME.png (indices of
OUT/classes.json, in their colours) and OUT/score_maps/NAME.png, and the share of each name in each
label map as OUT/shares.csv; for a video OUT/overlays/NAME.mp4 and a label map for
each frame in OUT/labels/NAME/. A detector has OUT/boxes/NAME.json in the place of label maps, boxes
and masks in the form of COCO's results. What is there already is not done again. Pictures are what
OpenCV or Pillow can read, with at most 16 bits a channel. A file that looks like a picture and
cannot be read or predicted, for whatever reason, is named and left out; the exit code is then 1.
"""

import argparse
import errno
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from denseclip_mm.apis import Detection, Prediction, Predictor
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.checks.towers import what_it_knows
from denseclip_mm.apis.command_line import checkpoint_or_none, positive, share, tool_parser
from denseclip_mm.apis.output import OUTPUTS, fingerprint, read_legend, write, write_shares
from denseclip_mm.apis.pictures.inputs import VIDEOS, find_inputs, frames_of, is_text, readable
from denseclip_mm.apis.prediction import with_other
from denseclip_mm.files import atomic_write
from denseclip_mm.models.vocabulary import parse_class_names

import cv2
import numpy as np
from tqdm import tqdm

THRESHOLD = 0.3  # of a detector's scores, as of mmdet's DetInferencer


def predict_picture(predict: Callable[..., Prediction | Detection], path: Path, name: str,
                    args: argparse.Namespace, write: Callable) -> bool:
    """Write what is asked for; False if it was there."""
    targets = {kind: args.out / kind / f'{name}{OUTPUTS[kind]}' for kind in args.outputs}
    if all(target.is_file() for target in targets.values()):
        return False
    prediction = predict(readable(path))
    for kind, target in targets.items():
        write(target, kind, prediction, name)
    return True


def predict_video(predict: Callable[..., Prediction | Detection], path: Path, name: str,
                  args: argparse.Namespace, write: Callable) -> bool:
    """Write overlays as a video, and labels or boxes by frames; False if they were there.

    Raises:
        OSError: if the video could not be written whole.
        ValueError: if score maps alone are asked for, which are for pictures, or this OpenCV writes
            no such videos.
    """
    if args.outputs == ['score_maps']:
        raise ValueError('score maps are drawn for pictures, not for videos')
    target = args.out / 'overlays' / f'{name}.mp4'
    by_frame = {kind: args.out / kind / name / 'done' for kind in args.outputs
                if kind in ('labels', 'boxes')}
    if ('overlays' not in args.outputs or target.is_file()) and all(
            done.is_file() for done in by_frame.values()):
        return False
    writer = None
    with ExitStack() as stack:
        for number, (frame, rate) in enumerate(
                tqdm(frames_of(path), desc=name, unit='frame', leave=False)):
            prediction = predict(frame)
            for kind, done in by_frame.items():
                write(done.parent / f'{number:06d}{OUTPUTS[kind]}', kind, prediction,
                      f'{name}/{number:06d}')
            if 'overlays' in args.outputs:
                overlay = np.ascontiguousarray(prediction.overlay(args.opacity)[..., ::-1])
                if writer is None:
                    part = stack.enter_context(atomic_write(target))
                    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*'mp4v'), rate,
                                             overlay.shape[1::-1])
                    stack.callback(writer.release)
                    if not writer.isOpened():
                        raise ValueError('this OpenCV cannot write mp4 videos; leave out overlays')
                writer.write(overlay)
        if writer is not None:
            writer.release()
            written = cv2.VideoCapture(str(part))
            if sum(iter(written.grab, False)) != number + 1:  # OpenCV says nothing of a full disk
                raise OSError(errno.ENOSPC, 'the video could not be written whole', str(target))
    for done in by_frame.values():
        done.touch()
    return True


def choose_outputs(predictor: Predictor, args: argparse.Namespace) -> None:
    """Find out what to write.

    Raises:
        ValueError: if the model does not make what is asked for.
    """
    made = ['overlays', 'boxes' if predictor.detects else 'labels',
            *(['score_maps'] if predictor.has_score_map else [])]
    for kind in args.outputs or ():
        if kind not in made:
            raise ValueError(f'the model of {args.config} has no {kind.replace("_", " ")}; '
                             f'it has {", ".join(made)}')
    args.outputs = args.outputs or made
    if args.score_threshold is None:
        args.score_threshold = THRESHOLD if predictor.detects else None
    elif not predictor.detects:
        raise ValueError(f'--score-threshold is for detectors, and {args.config} is none')


def claim(out: Path, predictor: Predictor, args: argparse.Namespace) -> None:
    """Write OUT/classes.json, the legend of what is in the folder and all that it depends on.

    Raises:
        ValueError: if the folder holds results of something else; says what differs.
    """
    names, palette = predictor.class_names, predictor.palette
    if args.other is not None:
        names, palette = with_other(names, palette)
    legend = dict(config=args.config, checkpoint=args.checkpoint or 'none',
                  weights=fingerprint(predictor.model), ensemble=args.ensemble,
                  labelled_by=predictor.labelled_by, classes=names,
                  palette=[list(colour) for colour in palette], other=args.other,
                  score_threshold=args.score_threshold)
    drawn = {key: getattr(args, key) for key, kind in dict(
        opacity='overlays', num_score_maps='score_maps').items() if kind in args.outputs}
    path = out / 'classes.json'
    there = read_legend(path) if path.is_file() else legend
    differing = [key for key in legend if there.get(key) != legend[key]] + [
        key for key in drawn if there.get(key, drawn[key]) != drawn[key]]
    if differing:
        raise ValueError(f'{out} holds results of something else: {path} differs in '
                         f'{", ".join(differing)}; choose another --out')
    with atomic_write(path) as part:
        part.write_text(json.dumps({**there, **drawn}, indent=1))


def _is_output(filename: str | None, out: Path) -> bool:
    return filename is not None and out.resolve() in Path(filename).resolve().parents


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', type=checkpoint_or_none,
                        help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('inputs', nargs='+', help='pictures, videos, folders or quoted globs')
    parser.add_argument('--out', type=Path, default=Path('predicted'), help='folder')
    parser.add_argument('--classes', help="other classes: 'cat, dog;puppy' (a;b are synonyms), a "
                        '.txt file with a name a line, or a dataset alias of mmseg')
    parser.add_argument('--other', type=float, help="pixels with a score below it become 'other': "
                        'a cosine where the score map answers, else a probability (docs/'
                        'own_photos.md); one name alone works then')
    parser.add_argument('--ensemble', nargs=2, type=float, metavar=('OWN', 'OTHER'),
                        help='mix a decode head with fixed classes and the score map, the latter '
                        "with these weights for the head's own classes and for others: 0.35 1")
    parser.add_argument('--outputs', nargs='+', choices=OUTPUTS, help='default: all')
    parser.add_argument('--score-threshold', type=share, help='of the things that a detector '
                        f'finds, 0 to 1 (default: {THRESHOLD})')
    parser.add_argument('--opacity', type=share, default=0.5, help='of the overlay, 0 to 1')
    parser.add_argument('--num-score-maps', type=positive, default=4,
                        help='largest classes drawn')
    parser.add_argument('--device', help='default: a GPU if there is one')
    return parser.parse_args(argv)


def predict_files(predictor: Predictor, files: dict[str, Path],
                  args: argparse.Namespace) -> tuple[int, list[str]]:
    """Predict files: how many were written, and a line for each that was left out.

    Raises:
        SystemExit: if the folder of the outputs cannot be written to.
    """
    def answer(picture: Path | np.ndarray) -> Prediction | Detection:
        prediction = predictor(picture)
        return prediction.above(args.score_threshold) if predictor.detects else prediction

    writer = partial(write, opacity=args.opacity, num_score_maps=args.num_score_maps)
    broken, written = [], 0
    for name, path in tqdm(files.items(), unit='file'):
        predict = predict_video if path.suffix.lower() in VIDEOS else predict_picture
        try:
            written += predict(answer, path, name, args, writer)
        except Exception as error:  # too narrow for OpenCV or the model, out of memory, ...
            if isinstance(error, OSError) and _is_output(error.filename, args.out):
                sys.exit(f'error: {error}')  # such as a full disk
            broken.append(f'{path}: {" ".join(str(error).split()) or type(error).__name__}')
            tqdm.write(f'left out: {broken[-1]}')
    return written, broken


def main(argv: Sequence[str] | None = None) -> None:
    """Predict all inputs."""
    args = parse_args(argv)
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    with one_line(args.traceback, stopped=lambda: (
            f'what is in {args.out} is whole; the same command goes on from there')):
        files, faults = find_inputs(args.inputs, args.out)
        if not is_text(args.out):
            raise ValueError('the name of --out is no text in UTF-8')
        predictor = Predictor(
            args.config, args.checkpoint,
            device=args.device,
            class_names=None if args.classes is None else parse_class_names(args.classes),
            ensemble=tuple(args.ensemble) if args.ensemble else None, other=args.other)
        choose_outputs(predictor, args)
        claim(args.out, predictor, args)
        print(f'{len(predictor.class_names)} classes, answered by the {predictor.labelled_by}')
        if known := what_it_knows(predictor.model):
            print(known)
        written, broken = predict_files(predictor, files, args)
        if 'labels' in args.outputs:
            write_shares(args.out)
        kept = len(files) - len(broken) - written
        print(f'wrote {written} of {len(files) + len(faults)} into {args.out}'
              + (f'; {kept} {"was" if kept == 1 else "were"} there already' if kept else ''))
        if broken := [f'{path}: {fault}' for path, fault in faults.items()] + broken:
            sys.exit('error: left out\n' + '\n'.join(broken))


if __name__ == '__main__':
    main()
