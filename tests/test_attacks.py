"""The short form of ``make attack``: every attack ends well or in one clear line."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    'run_attacks', Path(__file__).parent / 'attacks/run.py')
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)


@pytest.mark.parametrize('path', run.modules(), ids=lambda path: path.stem)
def test_attacks(path: Path, tmp_path: Path) -> None:
    tried = list(run.load(path).attacks(tmp_path, False))
    assert tried and {outcome for _, _, outcome in tried} <= {*run.OUTCOMES}
    assert [each for each in tried if each[2] not in run.GOOD] == []
