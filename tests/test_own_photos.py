"""docs/own_photos.md, followed word for word, with the demo's CLIP in the place of OpenAI's."""

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from denseclip_mm import Predictor
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/own_photos.md').read_text()
DEMO = ROOT / 'configs/demo/zero_shot_scenes.py'
CONFIG = 'configs/zero_shot/clip_vitb16.py'


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two pictures, in the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'photos'
    folder.mkdir()
    for index, name in enumerate(('street.jpg', 'garden.png')):
        cv2.imwrite(str(folder / name), draw(6, index, 128)[0])
    return folder


def test_the_commands(photos: Path, succeed: Callable[..., str]) -> None:
    commands = [shlex.split(block) for block in blocks('bash')]
    assert [words[1] for words in commands] == ['tools/predict.py'] * 2 + ['tools/app.py']
    assert all((ROOT / words[2]).is_file() and words[2] == CONFIG for words in commands)
    for words in commands[:2]:
        succeed('predict', DEMO, *words[3:], cwd=photos.parent)

    names = ['road', 'tree;bush', 'car', 'sky']
    predictor = Predictor(DEMO, device='cpu', class_names=names)
    expected = {path.stem: predictor(path) for path in photos.iterdir()}
    with open('predicted/shares.csv', newline='') as stream:
        assert stream.readline() == 'picture,name,share\n'.replace('\n', '\r\n')
        shares = {(picture, name): float(share) for picture, name, share in csv.reader(stream)}
    assert shares == pytest.approx({
        (stem, names[label]): share for stem, prediction in expected.items()
        for label, share in prediction.shares().items()}, abs=1e-6)
    legend = json.loads(Path('predicted/classes.json').read_text())
    assert legend['classes'] == names and legend['checkpoint'] == 'none'
    for stem, prediction in expected.items():
        labels = np.asarray(Image.open(f'predicted/labels/{stem}.png'))
        np.testing.assert_array_equal(labels, prediction.labels)
        for kind in ('overlays', 'score_maps'):
            assert Path(f'predicted/{kind}/{stem}.png').is_file()
    for row in re.findall(r'^\| `([\w./]+)` \|', PAGE, re.MULTILINE):
        assert Path('predicted', row.replace('NAME', 'street')).is_file(), row

    alone = json.loads(Path('cars/classes.json').read_text())
    assert alone['classes'] == ['car', 'other'] and alone['other'] == 0.2
    cosines = Predictor(DEMO, device='cpu', class_names=['car', 'sky'])(
        photos / 'street.jpg').score_map[0]
    np.testing.assert_array_equal(np.asarray(Image.open('cars/labels/street.png')), cosines < 0.2)


def test_the_script(photos: Path, capsys: pytest.CaptureFixture) -> None:
    script = blocks('python')[0]
    assert script.count(CONFIG) == 1
    found = {}
    exec(script.replace(CONFIG, str(DEMO)), found)
    prediction = found['prediction']
    assert prediction.class_names == ['road', 'tree;bush', 'car', 'other']
    printed = dict(line.rsplit(' ', 1) for line in capsys.readouterr().out.splitlines())
    assert printed == {prediction.class_names[index]: f'{share:.0%}'
                       for index, share in prediction.shares().items()}
    np.testing.assert_array_equal(
        cv2.imread('overlay.png')[..., ::-1], prediction.overlay())
    np.testing.assert_array_equal(found['mask'], prediction.labels == 2)
