#!/usr/bin/env python
"""Say where the time of a start goes: CPU seconds until a picture is segmented and drawn.

python tools/analysis_tools/start_up.py
python tools/analysis_tools/start_up.py --without mmdet transformers    # as if not installed

User and system time of one thread, since wall time is that of a machine's other work. Every run is
a process of its own that takes the steps in turn; a step's figure is its least of all runs.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise

from denseclip_mm.apis.command_line import positive

# What is imported first pays for what others need, too. The collector rests as in our own import.
STEPS = {
    'Python': 'gc.disable()',
    'torch': 'import torch',
    'torchvision': 'import torchvision',
    'open_clip': 'import open_clip',
    'mmengine': 'import mmengine.runner',
    'mmseg, and denseclip_mm itself': 'import denseclip_mm; gc.enable()',
    'model and weights': (
        'predictor = denseclip_mm.Predictor("denseclip_mm::demo/zero_shot_scenes.py", '
        'device="cpu", class_names=["red star", "snow"])'),
    'first picture': (
        'from denseclip_mm.demo.scenes import draw; '
        'found = predictor(draw(1, 7, 128)[0][..., ::-1]); found.overlay()'),
    'its score maps, drawn': (
        'from denseclip_mm.apis.pictures.panels import draw_panels; '
        'draw_panels(found.image, {"prediction": found.labels}, dict(enumerate(found.score_map)), '
        'names=found.class_names, palette=found.palette)'),
}


def run(without: Sequence[str]) -> list[float]:
    """CPU seconds of each step, in a process of its own.

    Args:
        without: packages that it does not find.

    Raises:
        RuntimeError: if a step fails; says its last line.
    """
    code = ['import gc, json, sys, time', f'sys.modules.update(dict.fromkeys({list(without)!r}))',
            'times = [0.0]']
    for step in STEPS.values():
        code += [step, 'times.append(time.process_time())']
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', '\n'.join([*code, 'print(json.dumps(times))'])],
        capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    times = json.loads(done.stdout.splitlines()[-1])
    return [after - before for before, after in pairwise(times)]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table (Markdown)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--without', nargs='+', default=[], metavar='PACKAGE',
                        help='hide packages that are used where they are installed')
    parser.add_argument('--repeats', type=positive, default=5, help='processes')
    args = parser.parse_args(argv)
    try:
        runs = [run(args.without) for _ in range(args.repeats)]
    except RuntimeError as error:
        sys.exit(f'error: {error}')
    seconds = [min(each) for each in zip(*runs, strict=True)]
    print(f'Python {sys.version.split()[0]}, torch {version("torch")}\n\n'
          '| step | CPU seconds | until here |\n| --- | --- | --- |')
    for place, (name, own) in enumerate(zip(STEPS, seconds, strict=True), 1):
        print(f'| {name} | {own:.2f} | {sum(seconds[:place]):.2f} |')


if __name__ == '__main__':
    main()
