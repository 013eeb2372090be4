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
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
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


def try_all(path: Path, long: bool) -> list[tuple[str, str, str]]:
    """Kind, case and outcome of all attacks of a module."""
    sys.path.insert(0, str(ROOT / 'tools'))  # as of a script
    with tempfile.TemporaryDirectory() as folder:
        return list(load(path).attacks(Path(folder), long))


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
    paths = [path for path in modules() if not args.only or path.stem in args.only]
    counts: dict[str, Counter[str]] = {}
    successes = []
    # A process for each: what one leaves behind is not the next one's business.
    with ProcessPoolExecutor(2, mp_context=get_context('spawn'), max_tasks_per_child=1) as pool:
        tried = chain.from_iterable(pool.map(try_all, paths, repeat(not args.short)))
        for kind, case, outcome in tried:
            counts.setdefault(kind, Counter())[outcome] += 1
            if outcome not in GOOD:
                successes.append(f'{outcome}: {kind}: {case}')
    print(table(counts))
    if successes:
        sys.exit('\n'.join(successes))


if __name__ == '__main__':
    main()
