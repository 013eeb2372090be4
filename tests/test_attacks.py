"""The short form of ``make attack``: every attack ends well or in one clear line."""

import importlib.util
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    'run_attacks', Path(__file__).parent / 'attacks/run.py')
run = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = run  # where a process looks for the function that it is to call
_spec.loader.exec_module(run)


@pytest.mark.parametrize('path', run.modules(), ids=lambda path: path.stem)
def test_attacks(path: Path) -> None:
    # In a process: the loggers and servers that attacks leave behind would fail later tests.
    with ProcessPoolExecutor(1, mp_context=get_context('fork')) as pool:
        tried = pool.submit(run.try_all, path, False).result()
    assert tried and {outcome for _, _, outcome in tried} <= {*run.OUTCOMES}
    assert [each for each in tried if each[2] not in run.GOOD] == []
