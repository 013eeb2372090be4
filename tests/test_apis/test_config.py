"""What the tools read: command lines of launchers, and data that are not where a config says."""

import os
from argparse import ArgumentParser
from pathlib import Path

from denseclip_mm.apis.config import check_data, parse_launched

import pytest
from mmengine.config import Config


def test_folders_inside_wrappers(tmp_path: Path) -> None:
    (tmp_path / 'images').mkdir()
    there = dict(data_root=str(tmp_path), data_prefix=dict(img_path='images'))
    wrapped = dict(type='RepeatDataset', dataset=dict(
        type='ConcatDataset', datasets=[there, dict(there, data_root='nowhere')]))
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped), val_dataloader=dict(dataset=there)))
    check_data(cfg, 'val_dataloader', 'test_dataloader')
    option = r'train_dataloader\.dataset\.dataset\.datasets\.1\.data_root=\.\.\.'
    with pytest.raises(FileNotFoundError, match=f"no folder 'nowhere'.*{option}"):
        check_data(cfg, 'train_dataloader')
    cfg.merge_from_dict({'train_dataloader.dataset.dataset.datasets.1.data_root': str(tmp_path)})
    check_data(cfg, 'train_dataloader')


@pytest.mark.parametrize(('words', 'rank'), [
    (['--local_rank', '2'], '2'), (['--local-rank=3'], '3'), ([], '0')])
@pytest.mark.parametrize('given', [None, '7'])
def test_command_lines_of_launchers(words: list[str], rank: str, given: str | None,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank that the environment has stands."""
    monkeypatch.setenv('LOCAL_RANK', 'of another run')
    monkeypatch.delenv('LOCAL_RANK')
    if given is not None:
        monkeypatch.setenv('LOCAL_RANK', given)
    args = parse_launched(ArgumentParser(), [
        *words, '--launcher', 'pytorch', '--cfg-options', 'a.b=1', 'c=[2,3]'])
    assert args.launcher == 'pytorch' and args.cfg_options == {'a.b': 1, 'c': [2, 3]}
    assert os.environ['LOCAL_RANK'] == (given or rank)
