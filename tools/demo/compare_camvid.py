#!/usr/bin/env python
r"""Train and test with and without language on CamVid; write a table.

python tools/demo/compare_camvid.py --data data/camvid --prepared data/camvid_lite0 \
    --images 10 367 --seeds 0 1 2 --out work_dirs/camvid_lite0

Each seed draws the training images. The networks of configs/demo/camvid_lite0_*.py learn from the
same ones, for the same iterations, and are tested once, on all images of val, after the last
iteration. Where there is language the score map is tested, too. Runs that are done are kept; an
interrupted one goes on from its last checkpoint.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive
from denseclip_mm.apis.open_vocabulary import has_score_map
from denseclip_mm.demo.trials import comparison, results_of, run_to_table
from denseclip_mm.models.views import view_of

from comparison_options import comparison_parser
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.models import BaseSegmentor

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'demo'
SYSTEMS = {
    'camvid_lite0_fpn': 'no language',
    'camvid_lite0_denseclip': 'DenseCLIP',
    'camvid_lite0_aggregate': 'DenseCLIP, aggregation head',
}
COLUMNS = ('decode head', 'score map')


def read_config(folder: Path, name: str, seed: int, images: list[int], data: Path, prepared: Path,
                options: dict[str, Any]) -> Config:
    """The config of one run, with its files in ``data`` and ``prepared``."""
    cfg = load_config(str(CONFIGS / f'{name}.py'), options=options, launcher='none',
                      work_dir=str(folder))
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data)
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.indices = images
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None  # it is tested at the end
    for file, key in files_of(cfg):
        file[key] = str(prepared / Path(file[key]).name)
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, save_best=None)
    cfg.resume = True
    return cfg


def files_of(cfg: Config) -> list[tuple[dict[str, Any], str]]:
    """The entries of a config that name a prepared file."""
    backbone, prompt = cfg.model.backbone, cfg.model.neck.get('prompt')
    weights = (backbone.get('backbone', backbone).init_cfg, 'checkpoint')
    return [weights] if prompt is None else [weights, (prompt, 'path')]


def by_score_map(model: BaseSegmentor) -> BaseSegmentor:
    """A view of a model with language that answers by its score map, of its own classes."""
    return view_of(model, decode_head=model.auxiliary_head, auxiliary_head=None)


def test(cfg: Config, model: BaseSegmentor, title: str) -> float:
    """The mIoU of a model on the images of val, in percent."""
    runner = Runner(
        model=model, work_dir=cfg.work_dir, test_dataloader=cfg.test_dataloader,
        test_cfg=cfg.test_cfg, test_evaluator=cfg.test_evaluator, default_scope='mmseg',
        experiment_name=f'{cfg.work_dir}-{title}')
    return float(runner.test()['mIoU'])


def trial(folder: Path, *words: Any) -> dict[str, Any]:
    """Train and test one network with one seed."""
    cfg = read_config(folder, *words)
    model = Runner.from_cfg(cfg).train()
    result = dict(learned=sum(parameter.numel() for parameter in model.parameters()
                              if parameter.requires_grad))
    heads = dict.fromkeys(COLUMNS[:1], model)
    if has_score_map(model):
        heads['score map'] = by_score_map(model)
    for column, head in heads.items():
        result[column] = test(cfg, head, column)
    return result


def plan(counts: Sequence[int], seeds: Sequence[int], out: Path, data: Path,
         *words: Any) -> dict[Path, tuple]:
    """The runs by folder. The images of a seed are the same for all networks.

    Raises:
        FileNotFoundError: if a folder of images or masks is missing; says which.
        ValueError: if there are fewer training images than asked for.
    """
    for split in ('train', 'val'):
        for folder in (data / 'images' / split, data / 'annotations' / split):
            if not folder.is_dir():
                raise FileNotFoundError(f'there is no folder {folder}; --data takes a folder that '
                                        'tools/dataset_converters/camvid.py wrote')
    total = len(list((data / 'images' / 'train').glob('*.jpg')))
    if not all(0 < count <= total for count in counts):
        raise ValueError(f'--images takes numbers of 1 to {total}, the .jpg files in '
                         f'{data / "images" / "train"}')
    return {out / name / f'images{count}-seed{seed}': (
        name, seed, sorted(random.Random(seed).sample(range(total), count)), data, *words)
        for count in counts for name in SYSTEMS for seed in seeds}


def check_files(folder: Path, *words: Any) -> None:
    """Refuse runs without their prepared files, which would take minutes to fail one by one.

    Raises:
        FileNotFoundError: if one is missing; says which.
    """
    for entries, key in files_of(read_config(folder, *words)):
        if not Path(entries[key]).is_file():
            raise FileNotFoundError(f'there is no {entries[key]}; tools/demo/prepare_camvid.py '
                                    'writes it')


def write_table(runs: dict[Path, tuple]) -> str:
    """Markdown: a row for each network and number of images, then what language adds."""
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for folder, result in results_of(runs).items():
        name, _, images = runs[folder][:3]
        rows.setdefault((name, len(images)), []).append(result)
    return comparison(rows, titles=SYSTEMS, columns=dict.fromkeys(COLUMNS, COLUMNS[0]),
                      counted='training images', unit='mIoU')


def main(argv: Sequence[str] | None = None) -> None:
    """Run all, write OUT/table.md."""
    parser = comparison_parser(__doc__, 'work_dirs/camvid_lite0')
    parser.add_argument('--data', type=Path, default=Path('data/camvid'),
                        help='CamVid: images/{train,val}, annotations/{train,val}')
    parser.add_argument('--prepared', type=Path, default=Path('data/camvid_lite0'),
                        help='folder that prepare_camvid.py wrote')
    parser.add_argument('--images', type=positive, nargs='+', default=[10, 367],
                        help='training images of a seed')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        runs = plan(args.images, args.seeds, args.out, args.data, args.prepared,
                    args.cfg_options or {})
        for folder, words in runs.items():
            check_files(folder, *words)
    path = args.out / 'table.md'
    print(f'{run_to_table(trial, runs, args.jobs, write_table, path)}\nwrote {path}')


if __name__ == '__main__':
    main()
