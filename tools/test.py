#!/usr/bin/env python
"""Test a segmentor or a detector. The options are those of mmseg's tools/test.py."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.checkpoints.load import load_checkpoint, plain_model, start_zero_shot
from denseclip_mm.apis.checks.config import check_data, dataset_leaves, load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import (
    checkpoint_or_none,
    launch_on_cpu,
    parse_launched,
    tool_parser,
)
from denseclip_mm.datasets import check_annotations
from denseclip_mm.engine.quiet_runner import QuietRunner

from mmengine.config import Config


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser('Test (and evaluate) a segmentor or a detector')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', type=checkpoint_or_none,
                        help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('--work-dir', help='folder of the log with the metrics')
    parser.add_argument('--out', help='folder to save the predicted label maps in; of a detector '
                        "predictions.bbox.json and .segm.json, COCO's results")
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder to save painted predictions in')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a prediction is shown')
    parser.add_argument('--tta', action='store_true', help='test time augmentation')
    return parse_launched(parser, argv)


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options into the config.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the config has no ``test_dataloader`` or ``tta_pipeline`` to test with.
    """
    if not cfg.get('test_dataloader'):
        raise ValueError(f'{args.config} has no test_dataloader')
    if args.checkpoint is not None:
        if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
            raise FileNotFoundError(f'there is no checkpoint {args.checkpoint!r} '
                                    f'(looked from {Path.cwd()})')
        cfg.load_from = args.checkpoint
    detects = cfg.default_scope == 'mmdet'
    if args.show or args.show_dir:
        cfg.default_hooks.visualization = dict(
            type='DetVisualizationHook' if detects else 'PredictionVisualizationHook', draw=True,
            interval=1, show=args.show, wait_time=args.wait_time)
        if args.show_dir and detects:
            cfg.default_hooks.visualization.test_out_dir = str(Path(args.show_dir).resolve())
        elif args.show_dir:
            cfg.visualizer.update(
                save_dir=args.show_dir, vis_backends=[dict(type='WholeVisBackend')])
    if args.out and detects:
        write_results(cfg, Path(args.out).resolve())
    elif args.out:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []),
                            dict(type='LabelMapHook', out_dir=args.out)]
    if args.tta:
        if 'tta_pipeline' not in cfg:
            raise ValueError(f'{args.config} has no tta_pipeline, which --tta needs')
        for _, leaf in dataset_leaves('', cfg.test_dataloader.dataset):
            leaf.pipeline = cfg.tta_pipeline
        cfg.model = {**cfg.tta_model, 'module': cfg.model}


def write_results(cfg: Config, folder: Path) -> None:
    """Let the metric of a detector write what it measures.

    Raises:
        ValueError: if there is no ``CocoMetric``, which does.
    """
    metrics = cfg.get('test_evaluator') or []
    writing = [metric for metric in (metrics if isinstance(metrics, list) else [metrics])
               if metric.type == 'CocoMetric']
    if not writing:
        raise ValueError("--out lets CocoMetric write a detector's results, and there is none in "
                         'test_evaluator')
    folder.mkdir(parents=True, exist_ok=True)
    writing[0].outfile_prefix = str(folder / 'predictions')


def main(argv: Sequence[str] | None = None) -> None:
    """Build the runner of the config and test."""
    args = parse_args(argv)
    logging.raiseExceptions = False  # of a log on a full disk, which is said where it matters
    with one_line(args.traceback) as first_iteration:
        cfg = load_config(args.config, options=args.cfg_options, launcher=args.launcher,
                          work_dir=args.work_dir)
        apply_options(cfg, args)
        check_data(cfg, 'test_dataloader')
        check_annotations(cfg, 'test_dataloader')
        launch_on_cpu(cfg)
        runner = QuietRunner.from_cfg(cfg)
        if cfg.get('load_from') is None:
            start_zero_shot(plain_model(runner.model))
        else:
            load_checkpoint(plain_model(runner.model), cfg.load_from)
        runner.register_hook(first_iteration)
        runner.test()


if __name__ == '__main__':
    main()
