"""What the tools read: configs, and data that are not where a config says."""

from pathlib import Path

from denseclip_mm.apis.checks.config import check_data, load_config

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


@pytest.mark.parametrize(('option', 'message'), [
    ('modl.backbone.model', "there is no 'modl' in the config; did you mean 'model'"),
    ('randomnes.seed', "there is no 'randomnes' in the config; did you mean 'randomness'"),
    ('crop_sizes', "there is no 'crop_sizes' in the config; did you mean 'crop_size'"),
])
def test_an_option_of_an_entry_that_is_not_there(tmp_path: Path, option: str,
                                                 message: str) -> None:
    """It would change nothing, and the run would be another than its user thinks."""
    path = tmp_path / 'config.py'
    path.write_text('crop_size = (64, 64)\nmodel = dict()')
    with pytest.raises(ValueError, match=message):
        load_config(str(path), options={option: 3}, launcher='none', work_dir=None)


@pytest.mark.parametrize(('entry', 'meant'), [
    ('custom_hokos', 'custom_hooks'), ('optim_wraper', 'optim_wrapper'),
    ('test_evalutor', 'test_evaluator'), ('custom_improts', 'custom_imports')])
def test_a_misspelt_entry_of_a_config(tmp_path: Path, entry: str, meant: str) -> None:
    """Which would do nothing; a variable may be named anything, even beside what it is like."""
    path, asked = tmp_path / 'config.py', dict(options=None, launcher='none', work_dir=None)
    path.write_text(f'{entry} = dict()')
    with pytest.raises(ValueError, match=f"the config has an entry '{entry}', which nothing reads; "
                                         f"did you mean '{meant}'"):
        load_config(str(path), **asked)
    empty = [] if meant == 'custom_hooks' else {}
    path.write_text(f'{entry} = dict()\n{meant} = {empty}\nscene_pipeline = base_classes = []')
    if meant != 'custom_imports':  # which mmengine reads itself
        assert entry in load_config(str(path), **asked)


@pytest.mark.parametrize('option', ['compile', 'sync_bn', 'randomness.seed', 'tta_model.type',
                                    'auto_scale_lr.enable', 'find_unused_parameters', 'my_own'])
def test_options_may_add_entries(tmp_path: Path, option: str) -> None:
    path = tmp_path / 'config.py'
    path.write_text('model = dict()\ntest_pipeline = []')
    cfg = load_config(str(path), options={option: 3}, launcher='none', work_dir=None)
    assert cfg.get(option.partition('.')[0]) in (3, {option.partition('.')[2]: 3})


@pytest.mark.parametrize(('name', 'numbers'), [
    ('std', '[0, 1, 1]'), ('std', '[float("nan")]'), ('std', '(-1, 1, 1)'), ('std', '[1e-50]'),
    ('std', '[float("inf")]'), ('std', '["1", "1", "1"]'), ('std', '[None]'),
    ('mean', '[float("inf"), 0, 0]'), ('mean', '[float("nan")]'), ('mean', '[10**400, 0, 0]')])
@pytest.mark.parametrize('key', ['model.data_preprocessor', 'test_pipeline.1'])
def test_pixels_of_which_nothing_is_left(tmp_path: Path, key: str, name: str, numbers: str) -> None:
    pixels = f"dict(**{{'mean': [0.0], 'std': [1], '{name}': {numbers}}})"
    (tmp_path / 'config.py').write_text(
        f'model = dict(data_preprocessor={pixels})' if key.startswith('model') else
        f'model = dict()\ntest_pipeline = [dict(type="LoadImageFromFile"), {pixels}]')
    with pytest.raises(ValueError) as error:
        load_config(str(tmp_path / 'config.py'), options=None, launcher='none', work_dir=None)
    assert str(error.value).startswith(f'{key} has {name}=')
    assert 'leaves nothing of a picture; these are numbers of' in str(error.value)
    assert len(str(error.value)) < 200


def test_initial_weights_may_be_constant(tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(
        "model = dict(init_cfg=dict(type='Normal', mean=0, std=0), neck=dict(std=0.0))")
    load_config(str(tmp_path / 'config.py'), options=None, launcher='none', work_dir=None)


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
