#!/usr/bin/env python
r"""Train and test every system of the family on the demo scenes; write a table and a picture.

python tools/demo/compare_prompts.py --out work_dirs/prompts
python tools/demo/compare_prompts.py --scenes 16 50 200 --systems clip_fpn_scenes \
    denseclip_fpn_scenes denseclip_aggregate_scenes --out work_dirs/margins

Every system trains on the same few labelled scenes of a seed, for the same iterations, with the
same optimiser; its config (configs/demo) says what it learns. Tests follow CoOp's protocol: base
names on the pixels of base classes, new names on the pixels of new classes, which never had a
label; and all names at once on all pixels. The decode head answers the names that it can, the
score map all of them. Runs that are done are kept; an interrupted one goes on from its last
checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.apis.pictures import paint
from denseclip_mm.apis.pictures.panels import draw_grid
from denseclip_mm.demo.render import BASE_CLASSES, CLASSES, NEW_CLASSES
from denseclip_mm.demo.trials import results_of, run_to_table, spread
from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead

import numpy as np
import torch
from comparison_options import comparison_parser
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.apis import init_model
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'demo'
SYSTEMS = {
    'CLIP, one template': 'zero_shot_scenes',
    'CLIP, ensemble': 'zero_shot_ensemble_scenes',
    'CoOp': 'coop_scenes',
    'CoOp, class-specific': 'coop_class_specific_scenes',
    'CoCoOp': 'cocoop_scenes',
    'Discrete prompt': 'discrete_scenes',
    '4 prompts, best': 'several_best_scenes',
    '4 prompts, mean': 'several_mean_scenes',
    '4 prompts, transport': 'several_transport_scenes',
    'CLIP + FPN, no language': 'clip_fpn_scenes',
    'DenseCLIP, pre-model': 'denseclip_pre_fpn_scenes',
    'DenseCLIP, post-model': 'denseclip_fpn_scenes',
    'DenseCLIP, aggregation head': 'denseclip_aggregate_scenes',
}
TITLES = {name: title for title, name in SYSTEMS.items()}
BASELINE = 'clip_fpn_scenes'
NAMES = {'base': BASE_CLASSES, 'new': NEW_CLASSES, 'all': CLASSES}
PICTURED = (2, 12, 30)  # scenes of the test set


def read_config(name: str, seed: int, scenes: int, folder: Path,
                options: dict[str, Any]) -> Config:
    """The config of one run: its seed chooses the labelled scenes, too."""
    cfg = load_config(str(CONFIGS / f'{name}.py'), options=options, launcher='none',
                      work_dir=str(folder))
    cfg.randomness = dict(seed=seed)
    cfg.train_dataloader.dataset.update(seed=10 + seed, length=scenes)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None  # it is tested at the end
    cfg.resume = True
    return cfg


def takes_names(model: BaseSegmentor) -> bool:
    """Whether a model can be asked for classes that it was not trained on."""
    return isinstance(getattr(model, 'neck', None), PixelTextNeck) \
        and not model.neck.prompt.class_specific


def labelled(dataset: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The dataset with the labels of these classes alone."""
    return {**dataset, 'metainfo': dict(classes=list(classes))}


def heads_of(model: BaseSegmentor, classes: Sequence[str]) -> dict[str, BaseSegmentor]:
    """Who answers names: ``'head'``, the decode head, and ``'score map'``, as far as they can."""
    heads = {}
    by_score_map = isinstance(model.decode_head, ScoreMapHead)
    if takes_names(model):
        heads['score map'] = answer_names(model, classes, by_score_map=True)
        if isinstance(model.decode_head, CostAggregationHead):
            heads['head'] = answer_names(model, classes)
    if classes is BASE_CLASSES:
        heads['score map' if by_score_map else 'head'] = model
    return heads


def test_names(cfg: Config, model: BaseSegmentor, classes: Sequence[str], title: str) -> float:
    """Score the answer to names, on the pixels of their classes: mIoU in percent."""
    loader = {**cfg.test_dataloader, 'dataset': labelled(cfg.test_dataloader.dataset, classes)}
    runner = Runner(
        model=model, work_dir=cfg.work_dir, test_dataloader=loader, test_cfg=cfg.test_cfg,
        test_evaluator=cfg.test_evaluator, default_scope='mmseg',
        experiment_name=f'{Path(cfg.work_dir).name}-{title}')
    return float(runner.test()['mIoU'])


def trial(folder: Path, name: str, seed: int, scenes: int,
          options: dict[str, Any]) -> dict[str, Any]:
    """Train and test one system with one seed."""
    cfg = read_config(name, seed, scenes, folder, options)
    runner = Runner.from_cfg(cfg)
    learned = sum(parameter.numel() for parameter in runner.model.parameters()
                  if parameter.requires_grad)
    if learned:
        runner.train()
    else:
        runner.model.init_weights()
    result = dict(learned=learned)
    for kind, classes in NAMES.items():
        for head, model in heads_of(runner.model, classes).items():
            result[f'{kind}, {head}'] = test_names(cfg, model, classes, f'{kind}-{head}')
    return result


def plan(systems: Sequence[str], seeds: list[int], scenes: list[int], out: Path,
         options: dict[str, Any]) -> dict[Path, tuple]:
    """The runs by folder. Without anything to learn there is no chance: one is enough."""
    return {out / name / f'scenes{count}-seed{seed}': (name, seed, count, options)
            for count in scenes for name in systems
            for seed in (seeds[:1] if name.startswith('zero_shot') else seeds)}


def write_table(runs: dict[Path, tuple]) -> str:
    """Markdown: one row a system and number of scenes, and margins seed by seed."""
    columns = [f'{kind}, {head}' for kind in NAMES for head in ('head', 'score map')]
    lines = [f'| system | scenes | {" | ".join(columns)} | harmonic mean | learned parameters |',
             '| --- ' * (len(columns) + 4) + '|']
    results = {runs[folder][:3]: result for folder, result in results_of(runs).items()}
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for (name, _, scenes), result in results.items():
        rows.setdefault((name, scenes), []).append(result)
    for (name, scenes), row in rows.items():
        values = {column: [result.get(column) for result in row] for column in columns}
        head = 'head' if None not in values['new, head'] else 'score map'
        both = [None if None in pair else harmonic_mean(pair) for pair in zip(
            values[f'base, {head}'], values[f'new, {head}'], strict=True)]
        cells = [TITLES[name], '-' if name.startswith('zero_shot') else str(scenes),
                 *map(spread, values.values()), spread(both), f'{row[0]["learned"]:,}']
        lines.append(f'| {" | ".join(cells)} |')
    margins = _margins(results)
    return '\n'.join([*lines, '', *margins]) + '\n'


def _margins(results: dict[tuple[str, int, int], dict[str, Any]]) -> list[str]:
    """What language adds, and what a head for any names adds to the score map, seed by seed."""
    lines = []
    for name, scenes in dict.fromkeys((name, scenes) for name, _, scenes in results):
        seeds = [seed for other, seed, count in results if (other, count) == (name, scenes)]
        base = [results.get((BASELINE, seed, scenes), {}).get('base, head') for seed in seeds]
        own = [results[name, seed, scenes] for seed in seeds]
        pairs = []
        if name.startswith('denseclip') and None not in base:
            pairs += [(f'base, {head}', base, 'no language') for head in ('head', 'score map')]
        if 'new, head' in own[0]:
            pairs += [(f'{kind}, head', [result[f'{kind}, score map'] for result in own],
                       'its score map') for kind in NAMES]
        for column, others, what in pairs:
            margins = [result[column] - other for result, other in zip(own, others, strict=True)]
            lines.append(f'- {TITLES[name]}, {scenes} scenes: {column} over {what} '
                         f'{spread(margins, sign="+")} mIoU '
                         f'({", ".join(f"{margin:+.1f}" for margin in margins)}).')
    return lines


@torch.no_grad()
def predictions(configs: dict[str, Config]) -> dict[str, list[np.ndarray | None]]:
    """Columns of a grid: scenes, truth and predictions, for base names and then for new names.

    Pixels of classes that were not asked for are black.
    """
    models = {}
    for title, cfg in configs.items():
        last = Path(cfg.work_dir, 'last_checkpoint')
        models[title] = init_model(cfg, last.read_text() if last.is_file() else None, device='cpu')
        if not last.is_file():
            models[title].init_weights()
    columns: dict[str, list[np.ndarray | None]] = {}
    dataset = next(iter(configs.values())).test_dataloader.dataset
    rows = 0
    for classes in (BASE_CLASSES, NEW_CLASSES):
        scenes = DATASETS.build(labelled(dataset, classes))
        palette = scenes.metainfo['palette']
        samples = [scenes[index] for index in PICTURED if index < len(scenes)]
        truths = [sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in samples]
        new = {'image': [sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
                         for sample in samples],
               'truth': [paint(truth, palette) for truth in truths]}
        for title, model in models.items():
            alone = isinstance(model.decode_head, ScoreMapHead)
            for head, view in sorted(heads_of(model, classes).items()):
                answers = [view.test_step(pseudo_collate([sample]))[0].pred_sem_seg.data[0]
                           for sample in samples]
                new[title if head == 'head' or alone else f'{title}, score map'] = [
                    paint(np.where(truth == 255, 255, answer), palette)
                    for truth, answer in zip(truths, answers, strict=True)]
        for title in {**columns, **new}:
            columns.setdefault(title, [None] * rows).extend(
                new.get(title, [None] * len(samples)))
        rows += len(samples)
    return columns


def main(argv: Sequence[str] | None = None) -> None:
    """Run, write OUT/table.md and OUT/grid.png."""
    parser = comparison_parser(__doc__, 'work_dirs/prompts')
    parser.add_argument('--systems', nargs='+', choices=list(TITLES), metavar='CONFIG',
                        default=list(TITLES), help=f'some of {", ".join(TITLES)} (default: all)')
    parser.add_argument('--scenes', type=positive, nargs='+', default=[16],
                        help='labelled scenes of a seed')
    args = parser.parse_args(argv)
    options = args.cfg_options or {}
    with one_line(args.traceback):
        runs = plan(args.systems, args.seeds, args.scenes, args.out, options)
        for folder, words in runs.items():
            read_config(*words[:3], folder, options)
    table = run_to_table(trial, runs, args.jobs, write_table, args.out / 'table.md')
    pictured = {TITLES[words[0]]: read_config(*words[:3], folder, options)
                for folder, words in reversed(runs.items())}  # the first run of a system last
    systems = [TITLES[name] for name in args.systems]
    draw_grid(predictions({title: pictured[title] for title in systems}), args.out / 'grid.png')
    print(f'{table}\nwrote {args.out / "table.md"} and {args.out / "grid.png"}')


if __name__ == '__main__':
    main()
