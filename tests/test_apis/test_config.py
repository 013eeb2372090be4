"""What the tools read: command lines of launchers, and data that are not where a config says."""

import os
from argparse import ArgumentParser
from pathlib import Path

from denseclip_mm.apis.config import check_data, load_config, parse_launched

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


@pytest.mark.parametrize(('text', 'message'), [
    ('model = 3', 'model has to be a dict, got 3'),
    ("val_dataloader = 'val'", "val_dataloader has to be a dict, got 'val'"),
    ("custom_hooks = 'all'", "custom_hooks has to be a list, got 'all'"),
    ('load_from = 3', 'load_from has to be a str, got 3'),
    ("default_scope = 'mmsegm'", "default_scope='mmsegm' is no package"),
])
def test_values_of_a_wrong_kind(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(str(path), options=None, launcher='none', work_dir=None)


@pytest.mark.parametrize(('dataset', 'message'), [
    (None, r'train_dataloader\.dataset has to be a dict, got None'),
    (dict(data_root=['a', 'b']), r"dataset\.data_root has to be a str, got \['a', 'b'\]"),
    (dict(data_prefix='images'), r"dataset\.data_prefix has to be a dict, got 'images'"),
])
def test_datasets_of_a_wrong_kind(dataset: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_data(Config(dict(train_dataloader=dict(dataset=dataset))), 'train_dataloader')


def test_splits_that_are_not_there() -> None:
    check_data(Config(dict(val_dataloader=None)), 'val_dataloader', 'test_dataloader')


def test_paths_with_commas_and_spaces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One that is there is one path; what is no KEY=VALUE ends in the usage."""
    folder = tmp_path / 'my data, labelled'
    folder.mkdir()
    read = parse_launched(ArgumentParser(), ['--cfg-options', f'a={folder}', f'b={folder}/x'])
    assert read.cfg_options == {
        'a': str(folder), 'b': [str(tmp_path / 'mydata'), 'labelled/x']}
    for faulty in ('a', 'a=[1,'):
        with pytest.raises(SystemExit):
            parse_launched(ArgumentParser(), ['--cfg-options', faulty])
        assert f'expected KEY=VALUE, got {faulty}' in capsys.readouterr().err
