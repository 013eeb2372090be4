"""Equal file names in different folders: each has a file of its own, and a full disk is said."""

import re
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.apis.inference import Predictor
from denseclip_mm.demo.scenes import draw
from denseclip_mm.engine.prediction_hooks import picture_name

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('', 'one', 'one/deep', 'two')
FILES = f"""
_base_ = '{ROOT}/configs/demo/zero_shot_scenes.py'
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
test_dataloader = dict(batch_size=3, dataset=dict(
    _delete_=True, type='BaseSegDataset', data_root='.', img_suffix='.png', seg_map_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='labels'), metainfo=dict(
        classes=NAMES, palette=[[7, 7, number] for number in range(len(NAMES))]),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
              dict(type='PackSegInputs')], test_mode=True))
custom_hooks = [dict(type='ScoreMapVisualizationHook', interval=1, classes=1)]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Four pictures of one name: at the top and in three folders."""
    names = Config.fromfile(ROOT / 'configs/demo/zero_shot_scenes.py').base_classes
    for index, folder in enumerate(FOLDERS):
        image, labels = draw(5, index, 64)
        for kind, picture in (('images', image), ('labels', labels % len(names))):
            (tmp_path / kind / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / folder / '0.png'), picture)
    path = tmp_path / 'files.py'
    path.write_text(FILES.replace('NAMES', repr(names)))
    return path


def test_folders_are_kept(config: Path, tmp_path: Path, succeed: Callable) -> None:
    """In label maps, painted predictions and score maps."""
    succeed('test', config, '--out', 'out', '--show-dir', 'shown', cwd=tmp_path)
    expected = sorted(str(Path(folder) / '0.png') for folder in FOLDERS)
    written = [path.relative_to(tmp_path / 'out') for path in (tmp_path / 'out').rglob('*.png')]
    assert sorted(map(str, written)) == expected
    predictor = Predictor(config, device='cpu')
    for path in written:
        labels = np.asarray(Image.open(tmp_path / 'out' / path))
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, predictor(tmp_path / 'images' / path).labels)
    images = next((tmp_path / 'shown').rglob('vis_image'))
    shown = sorted(path.relative_to(images).as_posix() for path in images.rglob('*.png'))
    assert shown == sorted(
        [f'test_{name}_0.png' for name in expected]
        + [f'score_maps_test_{name.removesuffix(".png")}_0.png' for name in expected])


def test_a_backend_that_would_lose_pictures_is_refused(config: Path, tmp_path: Path,
                                                       run_tool: Callable) -> None:
    done = run_tool('test', config, '--cfg-options',
                    'visualizer.vis_backends.0.type=LocalVisBackend', cwd=tmp_path)
    assert 'name WholeVisBackend in vis_backends' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize('option', ['--out', '--show-dir'])
def test_a_full_disk_is_one_line(option: str, config: Path, tmp_path: Path, run_tool: Callable,
                                 full_disk: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(runner: Runner, run: Callable = Runner.test) -> None:
        with full_disk(100):
            run(runner)
    monkeypatch.setattr(Runner, 'test', test)
    done = run_tool('test', config, option, 'written', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert re.match(r"error: .*\[Errno \d+\] .*png'$", done.stderr.splitlines()[-1])
    assert not list((tmp_path / 'written').rglob('*.png'))


def test_names_are_below_the_folder_that_datasets_share(tmp_path: Path) -> None:
    def of(folder: str) -> BaseSegDataset:
        return BaseSegDataset(data_root=str(tmp_path), data_prefix=dict(img_path=folder),
                              metainfo=dict(classes=['sky']), lazy_init=True)
    both = ConcatDataset([of('a/images'), of('b/images')], lazy_init=True)
    assert picture_name(f'{tmp_path}/a/images/deep/0.jpg', both) == 'a/images/deep/0.jpg'
    assert picture_name(f'{tmp_path}/a/images/deep/0.jpg', of('a/images')) == 'deep/0.jpg'
    assert picture_name('/elsewhere/0.jpg', of('a/images')) == 'elsewhere/0.jpg'
    assert picture_name('../0.jpg', of('')) == '0.jpg'
