#!/usr/bin/env python
"""Measure which threshold of "other" (Predictor, tools/predict.py --other) separates on scenes.

python tools/demo/measure_other.py

The small CLIP is asked twice about each scene and each class that is in it. First for all names but
that class, which should then be "other": how many of its pixels are, and how many of the rest have
their own name. Then for that name alone: the intersection over union of what is not "other" with
the class. Prints a line for each threshold, a cosine; "best" are those with the largest mean of the
first two, and with the largest IoU.
"""

from collections.abc import Sequence

from denseclip_mm import Predictor
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive, tool_parser
from denseclip_mm.demo.render import CLASSES
from denseclip_mm.demo.scenes import draw

import numpy as np
from tqdm import tqdm

THRESHOLDS = np.arange(0.3, 0.801, 0.05).round(2)


def below(scores: np.ndarray) -> np.ndarray:
    """How many of the scores lie below each threshold."""
    return np.searchsorted(np.sort(scores), THRESHOLDS, side='left')


def measure(predictor: Predictor, scenes: int, seed: int) -> tuple[np.ndarray, ...]:
    """Hidden pixels that are other, others that have their name, and IoU of one name alone.

    Returns:
        Three shares for each threshold, of the pixels of all scenes and classes together.
    """
    counts = np.zeros((6, len(THRESHOLDS)))
    for index in tqdm(range(scenes), unit='scene'):
        image, truth = draw(seed, index, 128)
        score_map = predictor(image[..., ::-1]).score_map
        for hidden in np.unique(truth):
            inside = truth == hidden
            rest = score_map.copy()
            rest[hidden] = -np.inf
            best, alone = rest.max(0), score_map[hidden]
            right = (rest.argmax(0) == truth) & ~inside
            found = inside.sum() - below(alone[inside])
            counts += [below(best[inside]), np.full(len(THRESHOLDS), inside.sum()),
                       right.sum() - below(best[right]), np.full(len(THRESHOLDS), (~inside).sum()),
                       found, truth.size - below(alone.ravel()) + inside.sum() - found]
    return counts[0] / counts[1], counts[2] / counts[3], counts[4] / counts[5]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = tool_parser(__doc__)
    parser.add_argument('--scenes', type=positive, default=100)
    parser.add_argument('--seed', type=int, default=5)
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        predictor = Predictor('denseclip_mm::demo/zero_shot_scenes.py', class_names=list(CLASSES))
        other, named, alone = measure(predictor, args.scenes, args.seed)
    print('| cosine | hidden class is other | rest has its name | one name alone, IoU | best |')
    print('| ---: | ---: | ---: | ---: | --- |')
    both = (other + named) / 2
    for place, threshold in enumerate(THRESHOLDS):
        best = [what for what, of in (('all but one', both), ('one alone', alone))
                if of.argmax() == place]
        print(f'| {threshold:.2f} | {other[place]:.1%} | {named[place]:.1%} | {alone[place]:.1%} | '
              f'{", ".join(best)} |')


if __name__ == '__main__':
    main()
