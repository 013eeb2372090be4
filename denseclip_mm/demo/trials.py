"""Many trainings, a few at a time, each in a process of its own; those that are done are kept."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from denseclip_mm.files import atomic_write

import torch
from tqdm import tqdm

RESULT = 'result.json'


def run_all(trial: Callable[..., dict[str, Any]], runs: Mapping[Path, tuple], jobs: int,
            ) -> list[str]:
    """Do the runs that have no result yet.

    Args:
        trial: takes the folder and the arguments of a run, and returns what was measured, which
            ``result.json`` in the folder keeps; what it prints goes to ``log.txt`` there.
        runs: arguments by folder.
        jobs: runs at a time, each on one core.

    Returns:
        What failed, a line each.
    """
    failures = []
    waiting = {folder: words for folder, words in runs.items()
               if not (folder / RESULT).is_file()}
    with ProcessPoolExecutor(jobs, mp_context=get_context('spawn')) as pool, \
            tqdm(total=len(runs), initial=len(runs) - len(waiting), unit='run') as bar:
        futures = {pool.submit(_run, trial, folder, words): folder
                   for folder, words in waiting.items()}
        for future in as_completed(futures):
            folder = futures[future]
            bar.update()
            bar.set_postfix_str(str(folder))
            if (error := future.exception()) is not None:
                failures.append(f'{folder}: {type(error).__name__}: {error} '
                                f'(see {folder / "log.txt"})')
    return failures


def run_to_table(trial: Callable[..., dict[str, Any]], runs: Mapping[Path, tuple], jobs: int,
                 write_table: Callable[[Mapping[Path, tuple]], str], path: Path) -> str:
    """Do the runs, and write the table of their results to a file.

    Args:
        trial: as in :func:`run_all`.
        runs: as there.
        jobs: as there.
        write_table: makes the table of the runs.
        path: the file.

    Returns:
        The table.

    Raises:
        SystemExit: if a run failed; says which, and that the others are kept.
    """
    if failures := run_all(trial, runs, jobs):
        sys.exit('error: ' + '\n'.join(failures) + '\nrun this command again to go on')
    table = write_table(runs)
    with atomic_write(path) as part:
        part.write_text(table)
    return table


def results_of(runs: Mapping[Path, tuple]) -> dict[Path, dict[str, Any]]:
    """What the runs measured, by folder."""
    return {folder: json.loads((folder / RESULT).read_text()) for folder in runs}


def comparison(rows: Mapping[tuple[str, int], Sequence[dict[str, Any]]], *,
               titles: Mapping[str, str], columns: Mapping[str, str], counted: str,
               unit: str) -> str:
    """Markdown: a row for each network and number of labels, then what each adds to the first.

    Args:
        rows: results of the seeds, by network and number of labels.
        titles: of the networks; the first is the one that the others are compared with.
        columns: what was measured, and by which of its columns the first network is compared.
        counted: what the numbers count, such as ``'scenes'``.
        unit: of the differences.
    """
    first, *_ = titles
    head = ['network', counted, *columns, 'learned parameters']
    lines, margins = [f'| {" | ".join(head)} |', '| --- ' * len(head) + '|'], []
    for (name, count), results in rows.items():
        scores = {column: [result.get(column) for result in results] for column in columns}
        cells = [titles[name], str(count), *map(spread, scores.values()),
                 f'{results[0]["learned"]:,}']
        lines.append(f'| {" | ".join(cells)} |')
        for column, values in scores.items() if name != first else ():
            base = [result[columns[column]] for result in rows[first, count]]
            by_seed = [value - other for value, other in zip(values, base, strict=True)]
            margins.append(f'- {titles[name]}, {count} {counted}: {column} over {titles[first]} '
                           f'{spread(by_seed, sign="+")} {unit} '
                           f'({", ".join(f"{each:+.1f}" for each in by_seed)}).')
    return '\n'.join([*lines, '', *margins]) + '\n'


def _run(trial: Callable[..., dict[str, Any]], folder: Path, words: tuple) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):  # what mmengine prints would break the progress bar
        os.dup2(log, stream)
    os.close(log)
    torch.set_num_threads(1)
    result = trial(folder, *words)
    with atomic_write(folder / RESULT) as part:
        part.write_text(json.dumps(result))


def spread(values: list[float | None], digits: int = 1, sign: str = '') -> str:
    """Mean and standard deviation of some runs; a dash where one has none.

    Examples:
        >>> spread([1.0, 2.0]), spread([1.0]), spread([1.0, None]), spread([1.0, 3.0], sign='+')
        ('1.5 ± 0.7', '1.0', '-', '+2.0 ± 1.4')
    """
    if any(value is None for value in values):
        return '-'
    deviation = f' ± {stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{mean(values):{sign}.{digits}f}{deviation}'
