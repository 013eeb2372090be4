"""Command lines of the tools: options that several have, and kinds of values."""

import os
from argparse import (
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction


def tool_parser(description: str) -> ArgumentParser:
    """The command line of a tool, with ``--traceback`` (see ``one_line`` in mistakes.py)."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('--traceback', action='store_true',
                        help='show where in the code an error was met')
    return parser


def checkpoint_or_none(word: str) -> str | None:
    """The checkpoint of a command line: ``none`` is the word for no checkpoint in every tool.

    Examples:
        >>> parser = tool_parser('')
        >>> _ = parser.add_argument('checkpoint', type=checkpoint_or_none)
        >>> parser.parse_args(['none']).checkpoint is None
        True
    """
    return None if word == 'none' else word


def positive(word: str) -> int:
    """A number of a command line that counts something: 1 or more.

    Raises:
        ArgumentTypeError: for less; argparse names the option.

    Examples:
        >>> positive('3')
        3
    """
    if (number := int(word)) < 1:
        raise ArgumentTypeError(f'has to be 1 or more, got {number}')
    return number


def share(word: str) -> float:
    """A number of a command line from 0 to 1, such as an opacity.

    Raises:
        ArgumentTypeError: for another one; argparse names the option.

    Examples:
        >>> share('0.5')
        0.5
    """
    if not 0 <= (number := float(word)) <= 1:  # which nan is not either
        raise ArgumentTypeError(f'has to be 0 to 1, got {number}')
    return number


class Options(DictAction):
    """mmengine's ``--cfg-options``; commas and spaces in a path that is there belong to it."""

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        return val if os.sep in val and Path(val).exists() else DictAction._parse_iterable(val)

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any,
                 option_string: str | None = None) -> None:
        """Read KEY=VALUE words; what is none ends in the usage."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, ValueError):
            raise ArgumentError(self, f'expected KEY=VALUE, got {" ".join(values)}') from None


def parse_launched(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """Read the command line of a tool that launchers start (torchrun, slurm, mpi).

    Adds the options of such tools: ``--cfg-options``, ``--launcher``, ``--local_rank``.

    Args:
        parser: has the tool's own options.
        argv: the words of the command line; None for those of this process.
    """
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override entries of the config, for example '
                        'train_dataloader.batch_size=8')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help='set by launchers')
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def launch_on_cpu(cfg: Config) -> None:
    """Let several processes train without a GPU, where mmengine's launcher would look for one.

    Joins the processes that the launcher started through gloo, and mmengine finds them joined.
    Does nothing where there is a GPU or a single process.
    """
    if cfg.launcher != 'pytorch' or torch.cuda.is_available():
        return
    torch.distributed.init_process_group('gloo')
    cfg.pop('sync_bn', None)  # which is for GPUs
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
