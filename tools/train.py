#!/usr/bin/env python
"""Train a segmentor. The options are those of mmseg's tools/train.py."""

import argparse
from collections.abc import Sequence

from denseclip_mm.apis.config import check_data, launch_on_cpu, load_config, parse_launched
from denseclip_mm.apis.mistakes import one_line, tool_parser

from mmengine.device import get_device
from mmengine.runner import Runner


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser('Train a segmentor')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument('--resume', action='store_true',
                        help='go on from the last checkpoint in the work dir')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    return parse_launched(parser, argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Build the runner of the config and train."""
    args = parse_args(argv)
    with one_line(args.traceback) as first_iteration:
        cfg = load_config(args.config, options=args.cfg_options, launcher=args.launcher,
                          work_dir=args.work_dir)
        check_data(cfg, 'train_dataloader', 'val_dataloader')
        cfg.resume = args.resume
        if args.amp:
            if get_device() == 'cpu':
                raise ValueError('--amp needs a GPU, and there is none; leave it out')
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        launch_on_cpu(cfg)
        runner = Runner.from_cfg(cfg)
        if not any(parameter.requires_grad for parameter in runner.model.parameters()):
            raise ValueError(f'{args.config} has nothing to learn; test it: '
                             f'tools/test.py {args.config}')
        runner.register_hook(first_iteration)
        runner.train()


if __name__ == '__main__':
    main()
