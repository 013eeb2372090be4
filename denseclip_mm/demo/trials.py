"""Many trainings, a few at a time, each in a process of its own; those that are done are kept."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from denseclip_mm.files import whole_file

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


def results_of(runs: Mapping[Path, tuple]) -> dict[Path, dict[str, Any]]:
    """What the runs measured, by folder."""
    return {folder: json.loads((folder / RESULT).read_text()) for folder in runs}


def _run(trial: Callable[..., dict[str, Any]], folder: Path, words: tuple) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):  # what mmengine prints would break the progress bar
        os.dup2(log, stream)
    os.close(log)
    torch.set_num_threads(1)
    result = trial(folder, *words)
    with whole_file(folder / RESULT) as part:
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
