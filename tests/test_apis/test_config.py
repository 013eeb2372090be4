"""Data that are not where a config says are named, inside wrappers too."""

from pathlib import Path

from denseclip_mm.apis.config import check_data

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
