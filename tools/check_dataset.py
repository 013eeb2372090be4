#!/usr/bin/env python
"""Read the images and labels of a config before training, and say what is wrong with them.

python tools/check_dataset.py CONFIG

Prints how often each class occurs, errors and warnings; exits with 1 if there is an error.
"""

import argparse
import sys
from collections.abc import Sequence

from denseclip_mm.apis.checks.config import check_data, load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import Options, tool_parser
from denseclip_mm.datasets import Report, check_split
from denseclip_mm.datasets.check import MaskReport
from denseclip_mm.datasets.sample import VOID

SPLITS = ('train', 'val', 'test')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', nargs='+', choices=SPLITS,
                        help='what to read (default: all that the config has; a test set that is '
                        'the validation set is read once)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override entries of the config, for example '
                        'train_dataloader.dataset.data_root=data/shapes')
    return parser.parse_args(argv)


def table(report: Report) -> str:
    """Pixels or boxes, their share and images, a class a line."""
    names = dict(enumerate(report.classes))
    if isinstance(report, MaskReport):
        unit, counts = 'pixels', report.pixels
        names[VOID] = f'void ({VOID})'
    else:
        unit, counts = 'boxes', report.boxes
    width, total = max(map(len, names.values())), max(counts.total(), 1)
    lines = [f'{"class":{width}}  {unit:>15}  {"share":>7}  {"images":>7}']
    lines += [f'{name:{width}}  {counts[label]:15,}  '
              f'{counts[label] / total:7.2%}  {report.images[label]:7,}'
              for label, name in names.items()]
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Read, report, and exit with 1 if there is an error."""
    args = parse_args(argv)
    num_errors, seen = 0, {}
    with one_line(args.traceback):
        cfg = load_config(args.config, options=args.cfg_options, launcher='none', work_dir=None)
        splits = args.split or [split for split in SPLITS if cfg.get(f'{split}_dataloader')]
        for split in splits:
            if not cfg.get(f'{split}_dataloader'):
                raise ValueError(f'{args.config} has no {split}_dataloader')
            dataset = cfg[f'{split}_dataloader'].dataset
            same = next((other for other in seen if seen[other] == dataset), None)
            seen[split] = dataset
            if same:
                print(f'{split}: the same as {same}')
                continue
            check_data(cfg, f'{split}_dataloader')
            report = check_split(cfg, split)
            bare = '' if isinstance(report, MaskReport) else f', {report.bare:,} without a box'
            print(f'{split}: {report.num_images:,} images{bare}\n{table(report)}')
            for line in report.warnings():
                print(f'warning: {line}')
            for line in report.errors():
                print(f'error: {line}')
            num_errors += len(report.errors())
            print()
    if num_errors:
        sys.exit(f'{num_errors} errors')
    print('no errors')


if __name__ == '__main__':
    main()
