#!/usr/bin/env python
"""Train and test every system of the prompt family on the demo scenes; write a table and a picture.

python tools/demo/compare_prompts.py --out work_dirs/prompts

Every system trains on the same few labelled scenes of a seed, for the same iterations, with the
same optimiser; its config (configs/demo) says what it learns. Tests follow CoOp's protocol: base
names on the pixels of base classes, new names on the pixels of new classes, which never had a
label. A model with a decoder answers base names twice, by the decoder and by its score map; new
names are the score map's alone. Runs that are done are kept; an interrupted one goes on from its
last checkpoint.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import harmonic_mean, mean, stdev
from typing import Any

from denseclip_mm.apis.config import load_config
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.apis.pictures import draw_grid, paint
from denseclip_mm.demo.render import BASE_CLASSES, NEW_CLASSES
from denseclip_mm.files import whole_file
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.apis import init_model
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS
from tqdm import tqdm

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'demo'
SYSTEMS = {
    'CLIP, one template': 'zero_shot_scenes',
    'CLIP, ensemble': 'zero_shot_ensemble_scenes',
    'CoOp': 'coop_scenes',
    'CoOp, class-specific': 'coop_class_specific_scenes',
    'CoCoOp': 'cocoop_scenes',
    'CLIP + FPN, no language': 'clip_fpn_scenes',
    'DenseCLIP, pre-model': 'denseclip_pre_fpn_scenes',
    'DenseCLIP, post-model': 'denseclip_fpn_scenes',
}
BASELINE, DENSECLIP = 'clip_fpn_scenes', ('denseclip_pre_fpn_scenes', 'denseclip_fpn_scenes')
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


def test_names(cfg: Config, model: BaseSegmentor, classes: Sequence[str]) -> float:
    """Score the score map's answer to names, on the pixels of their classes: mIoU in percent."""
    model = answer_names(model, classes)
    loader = {**cfg.test_dataloader, 'dataset': labelled(cfg.test_dataloader.dataset, classes)}
    runner = Runner(
        model=model, work_dir=cfg.work_dir, test_dataloader=loader, test_cfg=cfg.test_cfg,
        test_evaluator=cfg.test_evaluator, default_scope='mmseg',
        experiment_name=f'{Path(cfg.work_dir).name}-{len(classes)}-names')
    return float(runner.test()['mIoU'])


def run(name: str, seed: int, scenes: int, folder: Path, options: dict[str, Any]) -> None:
    """Train and test one system with one seed; leave ``result.json`` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):  # what mmengine prints would break the progress bar
        os.dup2(log, stream)
    os.close(log)
    torch.set_num_threads(1)
    cfg = read_config(name, seed, scenes, folder, options)
    runner = Runner.from_cfg(cfg)
    learned = sum(parameter.numel() for parameter in runner.model.parameters()
                  if parameter.requires_grad)
    seconds = None
    if learned:
        runner.train()
        seconds = float(np.median(runner.message_hub.get_scalar('train/time').data[0]))
    else:
        runner.model.init_weights()
    model = runner.model
    answered_by = 'score_map' if isinstance(model.decode_head, ScoreMapHead) else 'decoder'
    result = dict(decoder=None, score_map=None, new=None, learned=learned, seconds=seconds)
    result[answered_by] = float(runner.test()['mIoU'])
    if takes_names(model):
        if answered_by == 'decoder':
            result['score_map'] = test_names(cfg, model, BASE_CLASSES)
        result['new'] = test_names(cfg, model, NEW_CLASSES)
    with whole_file(folder / 'result.json') as part:
        part.write_text(json.dumps(result))


def plan(systems: dict[str, str], seeds: list[int], scenes: int,
         out: Path) -> dict[tuple[str, int], Path]:
    """The folder of every run. Without anything to learn there is no chance: one seed is enough."""
    return {(name, seed): out / name / f'scenes{scenes}-seed{seed}' for name in systems.values()
            for seed in (seeds[:1] if name.startswith('zero_shot') else seeds)}


def train_all(runs: dict[tuple[str, int], Path], scenes: int, jobs: int,
              options: dict[str, Any]) -> list[str]:
    """Do the runs that have no result; returns what failed."""
    failures = []
    context = get_context('spawn')
    waiting = {key: folder for key, folder in runs.items()
               if not (folder / 'result.json').is_file()}
    with ProcessPoolExecutor(jobs, mp_context=context) as pool, \
            tqdm(total=len(runs), initial=len(runs) - len(waiting), unit='run') as bar:
        futures: dict[Future, tuple[str, int]] = {
            pool.submit(run, name, seed, scenes, folder, options): (name, seed)
            for (name, seed), folder in waiting.items()}
        for future in as_completed(futures):
            name, seed = futures[future]
            bar.update()
            bar.set_postfix_str(f'{name}, seed {seed}')
            if future.exception() is not None:
                reason = ': '.join([type(future.exception()).__name__, str(future.exception())])
                failures.append(f'{name}, seed {seed}: {reason} '
                                f'(see {runs[name, seed] / "log.txt"})')
    return failures


def spread(values: list[float | None], digits: int = 1) -> str:
    """Mean and standard deviation of some runs."""
    if any(value is None for value in values):
        return '-'
    deviation = f' ± {stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{mean(values):.{digits}f}{deviation}'


def write_table(systems: dict[str, str], runs: dict[tuple[str, int], Path]) -> str:
    """Markdown: one row a system, and the margins over the baseline."""
    lines = ['| system | base, decoder | base, score map | new, score map | harmonic mean | '
             'learned parameters | s/iteration |', '| --- | --- | --- | --- | --- | --- | --- |']
    results = {key: json.loads((folder / 'result.json').read_text())
               for key, folder in runs.items()}
    for title, name in systems.items():
        rows = [result for (other, _), result in results.items() if other == name]
        both = [None if row['new'] is None else harmonic_mean([row['score_map'], row['new']])
                for row in rows]
        cells = [*(spread([row[key] for row in rows]) for key in ('decoder', 'score_map', 'new')),
                 spread(both), f'{rows[0]["learned"]:,}',
                 spread([row['seconds'] for row in rows], 2)]
        lines.append(f'| {title} | {" | ".join(cells)} |')
    baseline = {seed: result['decoder'] for (name, seed), result in results.items()
                if name == BASELINE}
    lines.append('')
    for title, name in systems.items():
        for key, answered_by in (('decoder', 'the decoder'), ('score_map', 'the score map')):
            margins = [result[key] - baseline[seed] for (other, seed), result in results.items()
                       if other == name and seed in baseline and name in DENSECLIP]
            if margins:
                lines.append(f'- {title}, by {answered_by}, over the same network without '
                             f'language, seed by seed: {spread(margins)} mIoU '
                             f'({", ".join(f"{margin:+.1f}" for margin in margins)}).')
    return '\n'.join(lines) + '\n'


@torch.no_grad()
def predictions(configs: dict[str, Config]) -> dict[str, list[np.ndarray | None]]:
    """Columns of a grid: scenes, truth and predictions, for base names and then for new names.

    Pixels of classes that were not asked for are black.
    """
    columns: dict[str, list[np.ndarray | None]] = {'image': [], 'truth': []}
    models = {}
    for title, cfg in configs.items():
        last = Path(cfg.work_dir, 'last_checkpoint')
        models[title] = init_model(cfg, last.read_text() if last.is_file() else None, device='cpu')
        if not last.is_file():
            models[title].init_weights()
    named = {}  # models that answer by their score maps
    for title, model in models.items():
        columns[title] = []
        if takes_names(model):
            by_decoder = not isinstance(model.decode_head, ScoreMapHead)
            named[f'{title}, score map' if by_decoder else title] = model
            columns.update({each: [] for each in named if each not in columns})
    dataset = next(iter(configs.values())).test_dataloader.dataset
    for classes in (BASE_CLASSES, NEW_CLASSES):
        asked = {title: answer_names(model, classes) for title, model in named.items()}
        if classes is BASE_CLASSES:
            asked = {**models, **asked}
        scenes = DATASETS.build(labelled(dataset, classes))
        palette = scenes.metainfo['palette']
        for index in (index for index in PICTURED if index < len(scenes)):
            sample = scenes[index]
            truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
            columns['image'].append(sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1])
            columns['truth'].append(paint(truth, palette))
            for title in list(columns)[2:]:
                if title not in asked:
                    columns[title].append(None)
                    continue
                answer = asked[title].test_step(pseudo_collate([sample]))[0].pred_sem_seg
                columns[title].append(paint(np.where(truth == 255, 255, answer.data[0]), palette))
    return columns


def main(argv: Sequence[str] | None = None) -> None:
    """Run, write OUT/table.md and OUT/grid.png."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/prompts'), help='folder')
    parser.add_argument('--systems', nargs='+', choices=list(SYSTEMS.values()), metavar='CONFIG',
                        help=f'some of {", ".join(SYSTEMS.values())} (default: all)')
    parser.add_argument('--scenes', type=int, default=16, help='labelled scenes of a seed')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=os.cpu_count(),
                        help='runs at a time, each on one core')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override entries of every config')
    args = parser.parse_args(argv)
    systems = {title: name for title, name in SYSTEMS.items()
               if args.systems is None or name in args.systems}
    options = args.cfg_options or {}
    runs = plan(systems, args.seeds, args.scenes, args.out)
    failures = train_all(runs, args.scenes, args.jobs, options)
    if failures:
        sys.exit('error: ' + '\n'.join(failures) + '\nrun this command again to go on')

    table = write_table(systems, runs)
    with whole_file(args.out / 'table.md') as part:
        part.write_text(table)
    seed = args.seeds[0]
    configs = {title: read_config(name, seed, args.scenes, runs[name, seed], options)
               for title, name in systems.items()}
    draw_grid(predictions(configs), args.out / 'grid.png')
    print(f'{table}\nwrote {args.out / "table.md"} and {args.out / "grid.png"}')


if __name__ == '__main__':
    main()
