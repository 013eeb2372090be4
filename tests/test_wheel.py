"""What pip installs: configs, tools and index beside the code, and a command."""

import json
import os
import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import denseclip_mm
from denseclip_mm import Predictor
from denseclip_mm.__main__ import COMMANDS, main
from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import pytest
import yaml
from mmengine.config import Config
from mmengine.hub import get_config
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/get_started.md').read_text()
SMALL = """
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64, length=4))
val_dataloader = dict(dataset=dict(image_size=64, length=2))
train_cfg = dict(max_iters=1, val_interval=1)
"""
# Two calls of the command in one process, since importing the package takes seconds.
CALLS = """
import sys
from denseclip_mm.__main__ import main
print('code:', sys.modules['denseclip_mm'].__file__)
main(['predict', 'denseclip_mm::demo/zero_shot_scenes.py', 'none', 'scene.png',
      '--classes', 'snow, sand, red star'])
main(['train', 'inherited.py', '--work-dir', 'work'])
"""
NAMES = ['snow', 'sand', 'red star']


def pip(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'pip', *map(str, words), '--quiet', '--no-deps', '--no-index',
         '--disable-pip-version-check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy: a build leaves folders behind."""
    pytest.importorskip('setuptools', minversion='70.1')  # builds wheels by itself from there on
    folder = tmp_path_factory.mktemp('wheel')
    for name in ('denseclip_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / 'source' / name, symlinks=True,
                        ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml'):
        shutil.copy(ROOT / name, folder / 'source')
    pip('wheel', '--no-build-isolation', '--wheel-dir', folder, folder / 'source')
    path, = folder.glob('*.whl')
    return path


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """Every file of configs and tools, as it is; metadata without pictures that are not there."""
    with ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    mim = {name.split('/.mim/')[1]: content for name, content in inside.items() if '/.mim/' in name}
    expected = [ROOT / 'model-index.yml', *(
        path for folder in ('configs', 'tools') for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.suffix != '.pyc')]
    assert mim == {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in expected}
    assert not any(name.startswith(('tests/', 'docs/', 'configs/', 'tools/')) for name in inside)
    assert sum(map(len, inside.values())) < 11.5e6  # unpacked; 10.2 MB of it are the demo CLIP's
    text = next(content for name, content in inside.items() if name.endswith('/METADATA')).decode()
    metadata = message_from_string(text)
    assert metadata['Requires-Python'] == '>=3.11' and metadata['Author'] and metadata['Keywords']
    assert 'Programming Language :: Python :: 3.11' in metadata.get_all('Classifier')
    assert f'Python {metadata["Requires-Python"][2:]} or later' in (ROOT / 'README.md').read_text()
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == metadata['Version']
    links = re.findall(r'!?\[[^]]*]\(([^)]*)\)', metadata.get_payload())
    assert len(links) > 1 and all(link.startswith('https://') for link in links)
    assert b'denseclip-mm = denseclip_mm.__main__:main' in next(
        content for name, content in inside.items() if name.endswith('/entry_points.txt'))


def test_installed_far_from_the_clone(wheel: Path, tmp_path: Path) -> None:
    """The demo model predicts what it predicts here, and an inherited config trains."""
    pip('install', '--target', tmp_path / 'site', wheel)
    work = tmp_path / 'elsewhere'
    work.mkdir()
    inherited, = re.findall(r"```python\n(_base_ = \['denseclip_mm::.*?)```", PAGE, re.DOTALL)
    (work / 'inherited.py').write_text(inherited + SMALL)
    cv2.imwrite(str(work / 'scene.png'), draw(1, 55, 128)[0])
    others = [path for path in os.environ.get('PYTHONPATH', '').split(os.pathsep)
              if path and Path(path).resolve() != ROOT]
    done = subprocess.run(
        [sys.executable, '-c', CALLS], cwd=work, text=True, capture_output=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path / 'site'), *others])})
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'code: {tmp_path / "site"}' in done.stdout and str(ROOT) not in done.stdout
    predictor = Predictor(ROOT / 'configs/demo/zero_shot_scenes.py', class_names=NAMES)
    labels = np.asarray(Image.open(work / 'predicted/labels/scene.png'))
    np.testing.assert_array_equal(labels, predictor(work / 'scene.png').labels)
    assert json.loads((work / 'predicted/classes.json').read_text())['classes'] == NAMES
    assert (work / 'work/iter_1.pth').is_file()
    assert re.search(r'Iter\(val\) \[1/1\] +aAcc: ', done.stdout)
    assert (tmp_path / 'site/bin/denseclip-mm').is_file()


@pytest.mark.parametrize('name', [
    'demo/coop_scenes.py', 'detection/clip_mask_rcnn_scenes.py', 'baselines/clip_fpn_r50.py'])
def test_configs_are_inherited_by_name(name: str, tmp_path: Path) -> None:
    """They are what they are by their path, so that their types are mmseg's or mmdet's and ours."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = ['denseclip_mm::{name}']\n")
    expected = Config.fromfile(ROOT / 'configs' / name)
    assert Config.fromfile(path).to_dict() == expected.to_dict()
    assert get_config(f'denseclip_mm::{name}').to_dict() == expected.to_dict()  # of mmengine.hub
    cfg = load_config(f'denseclip_mm::{name}', options=None, launcher='none', work_dir=None)
    assert cfg.model == expected.model and cfg.work_dir == f'work_dirs/{Path(name).stem}'
    path.write_text("_base_ = ['mmseg::_base_/models/fpn_r50.py']\n")  # as without us
    assert Config.fromfile(path).model._scope_ == 'mmseg'


@pytest.mark.parametrize(('name', 'message'), [
    ('denseclip_mm::coop.py', "'denseclip_mm::coop.py' is no config of a package, as denseclip_mm"),
    ('denseclip::demo/coop.py', "'denseclip::demo/coop.py' is no config of a package, as dense"),
    ('denseclip_mm::demo/coop.py', r'demo/coop\.py" does not exist'),
])
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        load_config(name, options=None, launcher='none', work_dir=None)
    assert '\n' not in str(error.value)


def test_the_command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    with pytest.raises(SystemExit, match=r"^error: there is no command 'trian'; there are train, "):
        main(['trian', 'config.py'])
    with pytest.raises(SystemExit) as end:
        main(['--help'])
    told = capsys.readouterr().out
    assert end.value.code == 0 and all(f'\n  {name} ' in told for name in COMMANDS)
    with pytest.raises(SystemExit, match=r"^error: there is no config 'nowhere\.py' "):
        main(['check', 'nowhere.py'])
    with pytest.raises(SystemExit) as end:
        main(['convert', '--help'])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith('usage: denseclip-mm convert [-h]')


def test_every_config_is_in_the_index_of_its_folder() -> None:
    """Configs exist, names and collections are consistent, what is said of data is so."""
    mim = Path(denseclip_mm.__file__).parent / '.mim'
    index = yaml.safe_load((mim / 'model-index.yml').read_text())
    data = {'ADE20K': 'ADE20KDataset', 'Cityscapes': 'CityscapesDataset', 'COCO': 'CocoDataset',
            'Pascal VOC': 'PascalVOCDataset', 'COCO-Stuff 164k': 'COCOStuffDataset',
            'CamVid': 'BaseSegDataset'}
    listed = []
    for name in index['Import']:
        metafile = yaml.safe_load((mim / name).read_text())
        collections = {each['Name'] for each in metafile['Collections']}
        for model in metafile['Models']:
            listed.append(model['Config'])
            assert Path(model['Config']).parent == Path(name).parent
            assert model['Name'] == Path(model['Config']).stem
            assert model['In Collection'] in collections
            assert 'Weights' not in model  # none are published in this layout
            for value in model.get('Metadata', {}).values():  # `mim search` joins lists as text
                assert not isinstance(value, list) or all(isinstance(each, str) for each in value)
            cfg = Config.fromfile(mim / model['Config'])
            if (trained := model.get('Metadata', {}).get('Training Data')) in data:
                dataset = cfg.train_dataloader.dataset
                assert dataset.get('dataset', dataset).type == data[trained], model['Name']
    configs = [path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').glob('*/*.py')
               if path.parent.name != '_base_']
    assert sorted(listed) == sorted(configs)
    names = [path.name for path in (ROOT / 'configs').rglob('*.py')]
    assert len(set(names)) == len(names)  # `mim train` finds a config by its file's name alone
