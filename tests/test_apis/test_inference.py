"""Predictor: what mmseg's inference gives, and names, score maps and errors beside it."""

from pathlib import Path

from denseclip_mm.apis.inference import Prediction, Predictor, read_image
from denseclip_mm.apis.pictures import distinct_colours
from denseclip_mm.demo.scenes import ScenesDataset, draw
from denseclip_mm.models.vocabulary import parse_class_names

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
DENSECLIP = ROOT / 'configs/demo/denseclip_fpn_scenes.py'
BASELINE = ROOT / 'configs/demo/clip_fpn_scenes.py'


@pytest.fixture(scope='module')
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A picture, RGB, and its labels among all 42 names."""
    image, labels = draw(1, 5, 128)
    return np.ascontiguousarray(image[..., ::-1]), labels


def checkpoint(config: Path, folder: Path, **meta: object) -> Path:
    """A checkpoint of the config's model, pretrained and untrained."""
    model = MODELS.build(Config.fromfile(config).model)
    model.init_weights()
    path = folder / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(DENSECLIP, tmp_path_factory.mktemp('trained'))


def test_what_inference_model_gives(trained: Path, scene: tuple, tmp_path: Path) -> None:
    image, _ = scene
    path = tmp_path / 'scene.png'
    cv2.imwrite(str(path), image[..., ::-1])
    predictor = Predictor(DENSECLIP, trained, device='cpu')
    given = predictor(path)
    model = init_model(str(DENSECLIP), str(trained), device='cpu')
    expected = inference_model(model, str(path))
    assert np.array_equal(given.labels, expected.pred_sem_seg.data[0])
    assert np.array_equal(given.image, image)
    assert predictor.answers == 'decode head'
    batch = model.data_preprocessor(
        dict(inputs=[torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())]), False)
    with torch.no_grad():
        score_map = model.extract_feat(batch['inputs'])[-1][0]
    np.testing.assert_allclose(given.score_map, score_map, atol=1e-5)
    assert given.class_names == model.neck.class_names
    all_names, colours = (ScenesDataset.METAINFO[key] for key in ('classes', 'palette'))
    assert given.palette == [colours[all_names.index(name)] for name in given.class_names]


def test_zero_shot_names_at_run_time(scene: tuple) -> None:
    image, labels = scene
    names = ScenesDataset.METAINFO['classes']
    there = [names[index] for index in np.unique(labels)]
    predictor = Predictor(ZERO_SHOT, device='cpu', class_names=[*there, 'purple ring'])
    given = predictor(image)
    assert predictor.answers == 'score map'
    assert given.class_names == [*there, 'purple ring'] and given.score_map.shape == (
        len(there) + 1, 16, 16)
    truth = np.array([there.index(names[index]) for index in range(len(names))
                      if names[index] in there])
    of_names = np.zeros(len(names), int)
    of_names[np.unique(labels)] = truth
    assert (given.labels == of_names[labels]).mean() > 0.8  # the demo CLIP knows these things
    shares = given.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares[0] == (given.labels == 0).mean()


def test_faulty_names_leave_the_predictor_as_it_was(scene: tuple) -> None:
    predictor = Predictor(ZERO_SHOT, device='cpu')
    before = predictor(scene[0])
    for faulty in (['grass'], ['grass', 'grass'], ['a', ''], [], 'no_such_alias'):
        with pytest.raises(ValueError, match='name'):
            predictor.set_class_names(faulty)
    after = predictor(scene[0])
    assert after.class_names == before.class_names and after.palette == before.palette
    assert np.array_equal(after.labels, before.labels)


def test_windows_give_the_map_of_the_whole(trained: Path, scene: tuple, tmp_path: Path) -> None:
    config = tmp_path / 'slide.py'
    config.write_text(f"_base_ = '{DENSECLIP}'\n"
                      "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', "
                      "scale=(128, 128)), dict(type='LoadAnnotations'), "
                      "dict(type='PackSegInputs')]\n"
                      "model = dict(test_cfg=dict(_delete_=True, mode='slide', "
                      "crop_size=(64, 64), stride=(32, 32)))\n")
    whole = Predictor(DENSECLIP, trained, device='cpu')(scene[0])
    slide = Predictor(config, trained, device='cpu')(cv2.resize(scene[0], (256, 256)))
    assert slide.labels.shape == (256, 256)
    np.testing.assert_allclose(slide.score_map, whole.score_map, atol=0.05)
    assert slide.score_map.shape == whole.score_map.shape


def test_a_model_without_language(scene: tuple, tmp_path: Path) -> None:
    meta = dict(dataset_meta=dict(classes=[f'thing {i}' for i in range(30)],
                                  palette=[[i, 0, 0] for i in range(30)]))
    predictor = Predictor(BASELINE, checkpoint(BASELINE, tmp_path, **meta), device='cpu')
    assert not predictor.has_score_map
    given = predictor(scene[0])
    assert given.score_map is None and given.labels.shape == (128, 128)
    assert given.class_names[3] == 'thing 3' and given.palette[3] == (3, 0, 0)
    with pytest.raises(ValueError, match='names need a score map'):
        predictor.set_class_names(['a', 'b'])


def test_what_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no config 'nix.py'"):
        Predictor('nix.py')
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint 'nix.pth'"):
        Predictor(DENSECLIP, 'nix.pth')
    with pytest.raises(ValueError, match=r'learns .* tensors beside its backbone'):
        Predictor(DENSECLIP, device='cpu')
    with pytest.raises(ValueError, match=r'is no checkpoint of this config: .*neck.gamma'):
        Predictor(ZERO_SHOT, trained, device='cpu')
    plain = tmp_path / 'plain.py'
    plain.write_text(f"_base_ = '{BASELINE}'\nmodel = dict(neck=None)\n")
    with pytest.raises(ValueError, match=r'give the checkpoint'):
        Predictor(plain, device='cpu')
    random = tmp_path / 'random.py'
    random.write_text(f"_base_ = '{ZERO_SHOT}'\nmodel = dict(backbone=dict(pretrained=None))\n")
    with pytest.raises(ValueError, match=r'names no pretrained weights; give the checkpoint'):
        Predictor(random, device='cpu')
    aligned = tmp_path / 'aligned.py'
    aligned.write_text(f"_base_ = '{ZERO_SHOT}'\nmodel = dict(backbone=dict(_delete_=True, type="
                       "'AlignedBackbone', embed_dim=64, image_size=64, backbone=dict(type="
                       "'ResNet', depth=18, base_channels=64)))\n")
    with pytest.raises(ValueError, match=r'names no pretrained weights; give the checkpoint'):
        Predictor(aligned, device='cpu')
    (tmp_path / 'text.pth').write_text('nothing of the kind')
    with pytest.raises(ValueError, match=r'text.pth is no checkpoint'):
        Predictor(DENSECLIP, tmp_path / 'text.pth', device='cpu')
    bomb = tmp_path / 'bomb.pth'
    torch.save(dict(state_dict={}, run=Path.unlink), bomb)
    with pytest.raises(ValueError, match='would run code when it is loaded, so it was not'):
        Predictor(DENSECLIP, bomb, device='cpu')


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'text.png').write_text('no picture')
    for name in ('empty.png', 'text.png', 'missing.png'):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)


def test_a_turned_photo_stands_upright(tmp_path: Path) -> None:
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.zeros((10, 30, 3), np.uint8)).save(tmp_path / 'turned.jpg', exif=exif)
    assert read_image(tmp_path / 'turned.jpg').shape == (30, 10, 3)


def test_overlay() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    given = Prediction(image, np.array([[0, 1]]), None, ['a', 'b'], [(0, 0, 0), (200, 100, 0)])
    assert given.overlay(0.5).tolist() == [[[50, 50, 50], [150, 100, 50]]]
    assert np.array_equal(given.overlay(0), image)


def test_colours_are_distinct() -> None:
    colours = np.array(distinct_colours(40), int)
    assert colours.min() >= 0 and colours.max() <= 255
    distance = np.abs(colours[:, None] - colours).sum(-1) + 999 * np.eye(40, dtype=int)
    assert distance.min() >= 20
    assert np.abs(np.diff(colours[:12], axis=0)).sum(1).min() > 100


@pytest.mark.parametrize(('text', 'names'), [
    ('cat, dog;puppy', ['cat', 'dog;puppy']), (' sea ', ['sea']), ('ade20k', 'ade20k'),
    ('names.txt', 'names.txt'), ('a,,b', ['a', '', 'b']),
    ('cat\ndog', ['cat', 'dog']), ('cat,\n\n dog;puppy', ['cat', 'dog;puppy']),
    ('cat\nb.txt', ['cat', 'b.txt']),
])
def test_names_of_a_command_line(text: str, names: str | list[str]) -> None:
    assert parse_class_names(text) == names
