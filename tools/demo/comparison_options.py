"""The options that comparisons of trained networks share (see compare_camvid.py)."""

import os
from argparse import ArgumentParser
from pathlib import Path

from denseclip_mm.apis.command_line import Options, positive, tool_parser


def comparison_parser(description: str, out: str) -> ArgumentParser:
    """A command line with seeds, folder, jobs and options of the configs.

    Args:
        description: of the tool.
        out: the folder by default.
    """
    parser = tool_parser(description)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=Path(out), help='folder')
    parser.add_argument('--jobs', type=positive, default=os.cpu_count(),
                        help='runs at a time, each on one core')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override entries of every config')
    return parser
