#!/usr/bin/env python
"""Try what has failed before, and its siblings, and count how each ends.

python tests/attacks/run.py            # minutes; make attack
python tests/attacks/run.py --short    # as the test suite does
"""

import argparse
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
OUTCOMES = ('fine', 'clear', 'trace', 'wrong', 'hang', 'executed')
GOOD = OUTCOMES[:2]


def load(path: Path) -> ModuleType:
    """A module of attacks."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules() -> list[Path]:
    """The files with attacks."""
    return sorted(path for path in HERE.glob('*.py') if path != Path(__file__))


def table(counts: dict[str, Counter[str]]) -> str:
    """Markdown: a row for each kind."""
    lines = ['| kind | tried | fine | one clear line | trace | silently wrong | hang | executed |',
             '| --- | --- | --- | --- | --- | --- | --- | --- |']
    for kind, count in counts.items():
        cells = [kind, count.total(), *(count[outcome] for outcome in OUTCOMES)]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all attacks, print the table, and exit with 1 if one of them succeeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--short', action='store_true', help='the form of the test suite')
    parser.add_argument('--only', nargs='+', metavar='MODULE', help='some of the modules here')
    args = parser.parse_args(argv)
    counts: dict[str, Counter[str]] = {}
    successes = []
    for path in modules():
        if args.only and path.stem not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for kind, case, outcome in load(path).attacks(Path(folder), not args.short):
                counts.setdefault(kind, Counter())[outcome] += 1
                if outcome not in GOOD:
                    successes.append(f'{outcome}: {kind}: {case}')
    print(table(counts))
    if successes:
        sys.exit('\n'.join(successes))


if __name__ == '__main__':
    main()
