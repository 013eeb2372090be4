#!/usr/bin/env python
r"""Train and test detectors with and without language on scenes; write a table of their AP.

python tools/demo/compare_detection.py --scenes 20 200 --seeds 0 1 2 --out work_dirs/detection

Each seed draws the labelled scenes. The detectors of configs/detection learn from the same ones,
for the same iterations, and are tested once, after the last one, on 200 other scenes: AP of boxes
and of masks, mean over IoU of 0.5 to 0.95 as COCO has it. Runs that are done are kept; an
interrupted one goes on from its last checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive
from denseclip_mm.demo.annotations import things_path
from denseclip_mm.demo.trials import comparison, results_of, run_to_table

from comparison_options import comparison_parser
from mmengine.config import Config
from mmengine.runner import Runner

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'detection'
SYSTEMS = {'clip_mask_rcnn_scenes': 'no language', 'denseclip_mask_rcnn_scenes': 'DenseCLIP'}
COLUMNS = {'box AP': 'bbox_mAP', 'box AP50': 'bbox_mAP_50',
           'mask AP': 'segm_mAP', 'mask AP50': 'segm_mAP_50'}


def read_config(folder: Path, name: str, seed: int, scenes: int,
                options: dict[str, Any]) -> Config:
    """The config of one run: its seed chooses the labelled scenes, too."""
    cfg = load_config(str(CONFIGS / f'{name}.py'), options=options, launcher='none',
                      work_dir=str(folder))
    cfg.train_dataloader.dataset.ann_file = things_path(10 + seed, scenes, 128)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None  # it is tested at the end
    cfg.randomness = dict(seed=seed)
    cfg.resume = True
    return cfg


def trial(folder: Path, *words: Any) -> dict[str, Any]:
    """Train and test one detector with one seed."""
    runner = Runner.from_cfg(read_config(folder, *words))
    model = runner.train()
    metrics = runner.test()
    return dict(learned=sum(parameter.numel() for parameter in model.parameters()
                            if parameter.requires_grad),
                **{column: 100 * metrics[f'coco/{key}'] for column, key in COLUMNS.items()})


def write_table(runs: dict[Path, tuple]) -> str:
    """Markdown: a row for each detector and number of scenes, then what language adds."""
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for folder, result in results_of(runs).items():
        name, _, scenes = runs[folder][:3]
        rows.setdefault((name, scenes), []).append(result)
    return comparison(rows, titles=SYSTEMS, columns={column: column for column in COLUMNS},
                      counted='scenes', unit='AP')


def main(argv: Sequence[str] | None = None) -> None:
    """Run all, write OUT/table.md."""
    parser = comparison_parser(__doc__, 'work_dirs/detection')
    parser.add_argument('--scenes', type=positive, nargs='+', default=[20, 200],
                        help='labelled scenes of a seed')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        runs = {args.out / name / f'scenes{count}-seed{seed}': (
            name, seed, count, args.cfg_options or {})
            for count in args.scenes for name in SYSTEMS for seed in args.seeds}
        for folder, words in runs.items():
            read_config(folder, *words)
    path = args.out / 'table.md'
    print(f'{run_to_table(trial, runs, args.jobs, write_table, path)}\nwrote {path}')


if __name__ == '__main__':
    main()
