"""The tools by short names, wherever the package is installed.

denseclip-mm train CONFIG      # in a clone the same as python tools/train.py CONFIG
denseclip-mm predict --help
torchrun --nproc_per_node 2 -m denseclip_mm train CONFIG --launcher pytorch

CONFIG is a file, or one of a package: denseclip_mm::demo/zero_shot_scenes.py
"""

import sys
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TOOLS = Path(__file__).parent / '.mim/tools'
COMMANDS = {  # the tool, and what it does
    'train': ('train.py', 'train a segmentor or a detector'),
    'test': ('test.py', 'test one'),
    'predict': ('predict.py', 'segment pictures and videos'),
    'regions': ('name_regions.py', 'name regions of a picture'),
    'app': ('app.py', 'serve a page to try a model on'),
    'export': ('export.py', 'write a model for use elsewhere, and ONNX'),
    'check': ('check_dataset.py', 'find what is wrong with a dataset'),
    'convert': ('convert_checkpoint.py', 'convert a published checkpoint of DenseCLIP'),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a tool.

    Args:
        argv: the command and the tool's own words; None for those of this process.

    Raises:
        SystemExit: if there is no such command (in one line), and as the tool ends.
    """
    commands = '\n'.join(f'  {name:10}{what}' for name, (_, what) in COMMANDS.items())
    parser = ArgumentParser(
        'denseclip-mm', description=__doc__, epilog=f'commands:\n{commands}',
        formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('command', metavar='COMMAND', help='one of those below')
    parser.add_argument('words', metavar='...', nargs=REMAINDER,
                        help='of the command, which explains them by --help')
    args = parser.parse_args(argv)
    if args.command not in COMMANDS:
        sys.exit(f'error: there is no command {args.command!r}; there are {", ".join(COMMANDS)}')
    sys.argv[:1] = [f'denseclip-mm {args.command}']  # as the tool's usage has it
    sys.path.insert(0, str(TOOLS))  # as of a script
    spec = spec_from_file_location(args.command, TOOLS / COMMANDS[args.command][0])
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main(args.words)


if __name__ == '__main__':
    main()
