#!/usr/bin/env python
"""Train a segmentor or a detector. The options are those of mmseg's tools/train.py."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.checkpoints.load import load_checkpoint, plain_model
from denseclip_mm.apis.checkpoints.resume import newest_checkpoint
from denseclip_mm.apis.checks.config import check_data, load_config
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import launch_on_cpu, parse_launched, tool_parser
from denseclip_mm.datasets import check_annotations
from denseclip_mm.engine.hooks import CheckClassesHook
from denseclip_mm.engine.quiet_runner import QuietRunner
from denseclip_mm.models.neck import PixelTextNeck

from mmengine.config import Config
from mmengine.device import get_device


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser('Train a segmentor or a detector')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the newest checkpoint in the work dir')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    return parse_launched(parser, argv)


def resume(cfg: Config) -> None:
    """Go on from the newest checkpoint that can be read, with the seed of its run.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is of a training that went on for longer than this one is to.
    """
    folder = Path(cfg.work_dir)
    if cfg.default_hooks.checkpoint.get('out_dir'):  # mmengine adds the work dir's name
        folder = Path(cfg.default_hooks.checkpoint.out_dir) / folder.name
    path, meta, faults = newest_checkpoint(folder)
    for fault in faults:
        print(f'skipped: {fault}', file=sys.stderr)
    for key, end in dict(iter='max_iters', epoch='max_epochs').items():
        most = (cfg.get('train_cfg') or {}).get(end)
        if isinstance(most, int) and meta[key] > most:
            raise ValueError(f'{path} is of {key} {meta[key]:,}, after the end of this training; '
                             f'train_cfg.{end}={most}')
    cfg.update(load_from=str(path), resume=True)
    if cfg.get('randomness', {}).get('seed') is None:
        cfg.merge_from_dict({'randomness.seed': meta.get('seed')})


def how_to_go_on(cfg: Config) -> str:
    """What a stopped training left, and how to go on."""
    last = Path(cfg.get('work_dir') or '', 'last_checkpoint')  # mmengine notes it with each
    if not last.is_file():
        return 'there is no checkpoint yet; the same command begins anew'
    return f'{last.read_text()} is there; the same command with --resume goes on from it'


def main(argv: Sequence[str] | None = None) -> None:
    """Build the runner of the config and train."""
    args = parse_args(argv)
    logging.raiseExceptions = False  # of a log on a full disk, which is said where it matters
    cfg = Config()
    with one_line(args.traceback, stopped=lambda: how_to_go_on(cfg)) as first_iteration:
        cfg = load_config(args.config, options=args.cfg_options, launcher=args.launcher,
                          work_dir=args.work_dir)
        check_data(cfg, 'train_dataloader', 'val_dataloader')
        check_annotations(cfg, 'train_dataloader', 'val_dataloader')
        if args.resume:
            resume(cfg)
        if args.amp:
            if get_device() == 'cpu':
                raise ValueError('--amp needs a GPU, and there is none; leave it out')
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        launch_on_cpu(cfg)
        runner = QuietRunner.from_cfg(cfg)
        if not any(parameter.requires_grad for parameter in runner.model.parameters()):
            raise ValueError(f'{args.config} has nothing to learn; test it: '
                             f'tools/test.py {args.config}')
        if cfg.get('load_from') is not None:
            load_checkpoint(plain_model(runner.model), cfg.load_from, new_classes=not cfg.resume)
        if (isinstance(getattr(plain_model(runner.model), 'neck', None), PixelTextNeck)
                and not any(isinstance(hook, CheckClassesHook) for hook in runner.hooks)):
            runner.logger.warning("nothing is checked before training: custom_hooks lacks "
                                  "dict(type='CheckClassesHook')")
        runner.register_hook(first_iteration)
        runner.train()


if __name__ == '__main__':
    main()
