"""Predictor: what mmseg's inference gives, and names, score maps and errors beside it."""

import pickle
from dataclasses import replace
from pathlib import Path

from denseclip_mm.apis import Prediction, Predictor, segmentation
from denseclip_mm.apis.pictures import distinct_colours, read_image
from denseclip_mm.apis.segmentation import _cosines, score_map_of
from denseclip_mm.demo.scenes import ScenesDataset, draw
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmseg.apis import inference_model, init_model
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.registry import MODELS
from PIL import Image
from torch.nn import functional as F

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


def upsampled(score_map: torch.Tensor, *size: int) -> np.ndarray:
    return F.interpolate(score_map, size, mode='bilinear')[0].numpy()


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
    assert predictor.labelled_by == 'decode head'
    batch = model.data_preprocessor(
        dict(inputs=[torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())]), False)
    with torch.no_grad():
        score_map = model.extract_feat(batch['inputs'])[-1]
    np.testing.assert_allclose(given.score_map, upsampled(score_map, 128, 128), atol=1e-5)
    assert given.class_names == model.neck.class_names
    all_names, colours = (ScenesDataset.METAINFO[key] for key in ('classes', 'palette'))
    assert given.palette == [colours[all_names.index(name)] for name in given.class_names]


def test_zero_shot_names_at_run_time(scene: tuple) -> None:
    image, labels = scene
    names = ScenesDataset.METAINFO['classes']
    there = [names[index] for index in np.unique(labels)]
    predictor = Predictor(ZERO_SHOT, device='cpu', class_names=[*there, 'purple ring'])
    given = predictor(image)
    assert predictor.labelled_by == 'score map'
    assert given.class_names == [*there, 'purple ring'] and given.score_map.shape == (
        len(there) + 1, 128, 128)
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


OWN_SIZE = "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]\n"
WAYS = {
    'whole': (OWN_SIZE, (96, 128)),
    'slide': (OWN_SIZE + "model = dict(test_cfg=dict(_delete_=True, mode='slide', "
              'crop_size=(64, 64), stride=(40, 40)))\n', (96, 136)),
    'padded': (OWN_SIZE + 'model = dict(data_preprocessor=dict(test_cfg=dict(size_divisor=64)))\n',
               (136, 128)),
    'resized': ('', (300, 200)),  # to 128 x 85, by the config's own step
}


def way_of(way: str, base: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """A config of this way of inference, and a picture for it."""
    text, size = WAYS[way]
    config = folder / f'{way}.py'
    config.write_text(f"_base_ = '{base}'\n{text}")
    return config, cv2.resize(draw(1, 5, 256)[0][..., ::-1], size[::-1])


def test_a_config_that_was_read(scene: tuple) -> None:
    cfg = Config.fromfile(ZERO_SHOT)
    text = cfg.text
    expected = Predictor(ZERO_SHOT, device='cpu')(scene[0])
    assert np.array_equal(Predictor(cfg, device='cpu')(scene[0]).labels, expected.labels)
    assert cfg.text == text and 'launcher' not in cfg and 'work_dir' not in cfg
    cfg.pop('test_pipeline')
    with pytest.raises(ValueError, match=r'^\S+zero_shot_scenes.py has no test_pipeline'):
        Predictor(cfg)
    with pytest.raises(ValueError, match=r'^the config has no test_pipeline'):
        Predictor(Config(cfg.to_dict()))
    with pytest.raises(ValueError, match=r'^a config is a file or a Config, got a dict'):
        Predictor(cfg.to_dict())
    with pytest.raises(FileNotFoundError) as error:
        Predictor(cfg.pretty_text)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize('way', WAYS)
def test_labels_are_the_largest_of_the_score_map(way: str, tmp_path: Path) -> None:
    """Pixel by pixel, for own and for other names."""
    config, image = way_of(way, ZERO_SHOT, tmp_path)
    predictor = Predictor(config, device='cpu')
    for names in (None, ['grass', 'red star', 'water;sea', 'sand', 'purple ring']):
        if names:
            predictor.set_class_names(names)
        given = predictor(image)
        assert given.score_map.shape == (len(predictor.class_names), *image.shape[:2])
        assert np.array_equal(given.score_map.argmax(0), given.labels)
        assert -1 <= given.score_map.min() < given.score_map.max() <= 1


@pytest.mark.parametrize('way', WAYS)
def test_one_score_map_of_a_picture(way: str, trained: Path, tmp_path: Path) -> None:
    """The hook's, for a decoder's model, is the predictor's; one inference gives labels, too."""
    config, image = way_of(way, DENSECLIP, tmp_path)
    predictor, looks = Predictor(config, trained, device='cpu'), []
    handle = predictor.model.backbone.register_forward_hook(lambda *_: looks.append(1))
    given = predictor(image)
    assert given.labelled_by == 'decode head' and given.score_map.shape == (30, *image.shape[:2])
    once = len(looks)
    loaded = LoadImageFromNDArray()(dict(img=np.ascontiguousarray(image[..., ::-1])))
    data = predictor.pipeline(loaded)
    batch = {key: [value] for key, value in data.items()}
    with torch.no_grad():
        labels = predictor.model.test_step(batch)[0].pred_sem_seg.data[0]
    assert len(looks) == 2 * once, 'mmseg runs the backbone as often for the labels alone'
    handle.remove()
    assert np.array_equal(given.labels, labels)
    assert np.array_equal(given.score_map, score_map_of(predictor.model, batch, 0))


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('names', [None, ['sand'], ['sand', 'snow', 'red star']])
def test_a_few_classes_at_a_time_are_the_same_to_the_bit(
        way: str, names: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large pictures are labelled so; all score maps are made for those who ask for them."""
    config, image = way_of(way, ZERO_SHOT, tmp_path)
    predictor = Predictor(config, device='cpu', other=0.5)
    if names:
        predictor.set_class_names(names)
    expected = predictor(image)
    monkeypatch.setattr(segmentation, '_AT_ONCE', 1)
    given = predictor(image)
    assert callable(given._score_map) and given.num_score_maps == len(predictor.class_names)
    some = [given.num_score_maps - 1, 0]
    assert np.array_equal(given.score_maps(some), expected.score_map[some])
    assert callable(given._score_map)
    for name in ('labels', 'scores', 'score_map'):
        assert np.array_equal(getattr(given, name), getattr(expected, name))
    assert np.array_equal(given.score_maps(some), expected.score_map[some])


def test_a_copied_prediction_has_its_score_map(scene: tuple) -> None:
    given = Predictor(ZERO_SHOT, device='cpu')(scene[0])
    again = pickle.loads(pickle.dumps(given))
    assert isinstance(vars(again)['_score_map'], np.ndarray)
    assert np.array_equal(again.score_map, given.score_map)
    assert Prediction(*map(vars(again).get, ('image', 'labels', 'scores', '_score_map')),
                      ['sky'], [(0, 0, 0)], 'score map').num_score_maps == 30
    with pytest.raises(TypeError, match='score_map'):
        Prediction(image=given.image, labels=given.labels, scores=given.scores, class_names=[],
                   palette=[], labelled_by='')


def test_padding_is_cut_off(tmp_path: Path) -> None:
    """136 x 128 padded to 192 x 128; the map of the padded picture, cut."""
    config, image = way_of('padded', ZERO_SHOT, tmp_path)
    predictor = Predictor(config, device='cpu')
    given = predictor(image)
    normalise = predictor.model.data_preprocessor
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1) - normalise.mean) / normalise.std
    with torch.no_grad():
        cells = predictor.model.extract_feat(F.pad(pixels, (0, 0, 0, 56))[None])[-1]
    np.testing.assert_allclose(given.score_map, upsampled(cells, 192, 128)[:, :136], atol=1e-5)


def test_windows_are_averaged(tmp_path: Path) -> None:
    config, image = way_of('slide', ZERO_SHOT, tmp_path)
    predictor = Predictor(config, device='cpu')
    normalise = predictor.model.data_preprocessor
    pixels = (torch.from_numpy(image.copy()).permute(2, 0, 1) - normalise.mean) / normalise.std
    total, count = np.zeros((30, 96, 136)), np.zeros((96, 136))
    for top in (0, 32):
        for left in (0, 40, 72):
            window = (..., slice(top, top + 64), slice(left, left + 64))
            with torch.no_grad():
                total[window] += upsampled(predictor.model.extract_feat(pixels[window][None])[-1],
                                           64, 64)
            count[window] += 1
    np.testing.assert_allclose(predictor(image).score_map, total / count, atol=1e-5)


def test_rounding_keeps_the_order() -> None:
    """Logits one step apart, many of which are one cosine in float32."""
    lower = torch.rand(1, 1000, 100, generator=torch.Generator().manual_seed(0)) + 3
    logits = torch.cat([lower, lower.nextafter(torch.tensor(9.)), lower])
    assert ((logits * 0.07).argmax(0) != 1).any(), 'rounding does make equals'
    cosines = _cosines(logits, 0.07, logits.amax(0))
    assert (cosines.argmax(0) == 1).all()
    torch.testing.assert_close(cosines, logits * 0.07, rtol=2e-7, atol=0)


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize(('config', 'learned'), [(ZERO_SHOT, False), (DENSECLIP, True)])
def test_features_once_names_as_often_as_one_likes(way: str, config: Path, learned: bool,
                                                   trained: Path, tmp_path: Path) -> None:
    config, image = way_of(way, config, tmp_path)
    checkpoint = trained if learned else None
    predictor, looks = Predictor(config, checkpoint, device='cpu'), []
    with pytest.raises(ValueError, match='no picture to segment; call set_image first'):
        predictor.predict()
    own = predictor(image)
    predictor.model.backbone.register_forward_hook(lambda *_: looks.append(1))
    predictor.set_image(image)
    for names in (None, ['grass', 'red star'], ['water;sea', 'sand', 'snow'], None):
        given = predictor.predict(names)
        expected = own
        if names:
            expected = Predictor(config, checkpoint, device='cpu', class_names=names)(image)
        assert np.array_equal(given.labels, expected.labels)
        assert np.array_equal(given.score_map, expected.score_map)
        assert given.class_names == expected.class_names and given.palette == expected.palette
        assert given.labelled_by == ('decode head' if learned and not names else 'score map')
    windows = 6 if way == 'slide' else 1
    assert len(looks) == windows
    predictor.set_class_names(['water', 'sand'])
    assert predictor.predict().class_names == ['water', 'sand'] and len(looks) == windows
    predictor.set_image(image[:, ::-1])
    predictor.predict()
    assert len(looks) == 2 * windows


def test_a_binary_model_has_cosines(tmp_path: Path) -> None:
    """One name: mmseg takes a sigmoid of the logits; the map stays a map of cosines."""
    config = tmp_path / 'one.py'
    config.write_text(f"_base_ = '{ZERO_SHOT}'\nmodel = dict(neck=dict(class_names=['red star']), "
                      'decode_head=dict(num_classes=1, sampler=None))\n')
    image = draw(1, 5, 128)[0][..., ::-1]
    given = Predictor(config, device='cpu')(image)
    both = Predictor(ZERO_SHOT, device='cpu', class_names=['red star', 'grass'])(image)
    np.testing.assert_allclose(given.score_map, both.score_map[:1], atol=1e-6)
    assert set(np.unique(given.labels)) <= {0, 1}


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
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.zeros((10, 30, 3), np.uint8)).save(tmp_path / 'turned.jpg', exif=exif)
    assert read_image(tmp_path / 'turned.jpg').shape == (30, 10, 3)


WAYS_TO_LOAD = {
    '12 bits': ("color_type='unchanged'", np.uint16, {}),
    'turned': ("color_type='color'", np.uint8, dict(orientation=6)),
    'turned, as it lies': ("color_type='color_ignore_orientation'", np.uint8, dict(orientation=6)),
    'floats': ('to_float32=True', np.uint8, {}),
    'Pillow': ("imdecode_backend='pillow'", np.uint8, {}),
}


@pytest.mark.parametrize('way', WAYS_TO_LOAD)
def test_files_are_loaded_as_in_test_py(way: str, tmp_path: Path) -> None:
    """The model gets what the config's own pipeline gives, bit by bit."""
    options, kind, exif = WAYS_TO_LOAD[way]
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{ZERO_SHOT}'\ntest_pipeline = [dict(type='LoadImageFromFile', "
                      f"{options}), dict(type='PackSegInputs')]\n")
    rng, path = np.random.default_rng(0), tmp_path / 'picture.png'
    picture = rng.integers(0, 4096 if kind is np.uint16 else 256, (64, 96, 3)).astype(kind)
    if exif:
        tag = Image.Exif()
        tag[0x0112] = exif['orientation']
        path = tmp_path / 'picture.jpg'
        Image.fromarray(picture).save(path, exif=tag)
    else:
        cv2.imwrite(str(path), picture)
    predictor, seen = Predictor(config, device='cpu'), []
    predictor.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    given = predictor(path)
    data = Compose(Config.fromfile(config).test_pipeline)(dict(img_path=str(path)))
    batch = predictor.model.data_preprocessor({key: [value] for key, value in data.items()}, False)
    assert torch.equal(seen[0], batch['inputs'])
    assert given.image.dtype == np.uint8 and given.image.shape == (*given.labels.shape, 3)
    assert given.image.shape[:2] == ((96, 64) if way == 'turned' else (64, 96))
    if kind is np.uint16:
        assert np.abs(given.image - picture[..., ::-1] * (255 / picture.max())).max() <= 0.5
    assert given.overlay().shape == given.image.shape


def test_pictures_that_are_too_narrow_or_too_small(tmp_path: Path) -> None:
    predictor = Predictor(ZERO_SHOT, device='cpu')
    for height, width in ((1, 300), (2, 2000), (300, 1)):
        with pytest.raises(ValueError, match=f'of {width} x {height} pixels is too narrow for'):
            predictor(np.zeros((height, width, 3), np.uint8))
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{ZERO_SHOT}'\n{OWN_SIZE}")
    with pytest.raises(ValueError, match='a picture of 1 x 1 pixels is too small for the model'):
        Predictor(config, device='cpu')(np.zeros((1, 1, 3), np.uint8))


def test_channels_that_the_model_does_not_take(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{ZERO_SHOT}'\ntest_pipeline = [dict(type='LoadImageFromFile', "
                      "color_type='unchanged'), dict(type='PackSegInputs')]\n")
    Image.fromarray(np.zeros((32, 32, 4), np.uint8)).save(tmp_path / 'rgba.png')
    with pytest.raises(ValueError, match=r'rgba.png is loaded with 4 channels, and the model takes '
                       r"3; color_type='color' of LoadImageFromFile gives three"):
        Predictor(config, device='cpu')(tmp_path / 'rgba.png')


def test_overlay() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    given = Prediction(image, np.array([[0, 1]]), np.ones((1, 2)), None, ['a', 'b'],
                       [(0, 0, 0), (200, 100, 0)], 'decode head')
    assert given.overlay(0.5).tolist() == [[[255] * 3, [0] * 3]]  # the border
    assert given.overlay(1).tolist() == [[[0, 0, 0], [200, 100, 0]]]
    assert np.array_equal(given.overlay(0), image)
    for faulty in (7, -0.1, float('nan')):
        with pytest.raises(ValueError, match=f'opacity has to be 0 to 1, got {faulty}'):
            given.overlay(faulty)
    wide = replace(given, image=np.full((1, 6, 3), 100, np.uint8),
                   labels=np.array([[0, 0, 0, 1, 1, 1]]))
    assert wide.overlay(0.5).tolist() == [[
        [50] * 3, [50] * 3, [255] * 3, [0] * 3, [150, 100, 50], [150, 100, 50]]]


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


def test_a_file_of_names_has_any_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there; `.txt` in any case is a file's, which then has to be there."""
    monkeypatch.chdir(tmp_path)
    for name in ('names.csv', 'Names.TXT', 'names'):
        Path(name).write_text('cat\ndog;puppy\n')
        assert parse_class_names(f' {name}') == name
        assert read_class_names(parse_class_names(name)) == ['cat', 'dog;puppy']
    Path('folder').mkdir()
    assert parse_class_names('folder') == ['folder']
    assert parse_class_names('none.csv') == ['none.csv']
    with pytest.raises(ValueError, match=r"'None\.TXT' is neither a file nor"):
        read_class_names(parse_class_names('None.TXT'))
    Path('photo.png').write_bytes(b'\x89PNG\xff')
    with pytest.raises(ValueError, match=r"'photo\.png' is no text in UTF-8"):
        read_class_names(parse_class_names('photo.png'))


def test_other(scene: tuple) -> None:
    """Below the threshold of the cosine; one name alone; its own index and colour."""
    names = ['water', 'snow', 'red star']
    predictor = Predictor(ZERO_SHOT, device='cpu', class_names=names, other=0.3)
    plain = Predictor(ZERO_SHOT, device='cpu', class_names=names)
    before, given = plain(scene[0]), predictor(scene[0])
    best = before.score_map.max(0)
    threshold = float(np.median(best))
    np.testing.assert_array_equal(before.scores, best)
    np.testing.assert_array_equal(
        given.labels, np.where(best < 0.3, 3, before.score_map.argmax(0)))
    assert given.class_names == [*names, 'other'] and given.palette[3] == (128, 128, 128)
    np.testing.assert_array_equal(given.score_map, before.score_map)
    predictor.set_image(scene[0])
    again = predictor.predict(other=threshold)
    assert abs(again.shares()[3] - 0.5) < 0.01
    alone = predictor.predict(['snow'], other=threshold)
    np.testing.assert_allclose(alone.score_map[0], before.score_map[1], atol=1e-6)
    np.testing.assert_array_equal(alone.labels, np.where(alone.score_map[0] < threshold, 1, 0))
    assert alone.class_names == ['snow', 'other'] and alone.labelled_by == 'score map'
    assert alone.overlay().shape == scene[0].shape
    named = predictor.predict(['other', 'snow'], other=1)
    assert named.class_names == ['other', 'snow'] and set(np.unique(named.labels)) == {0}


def test_other_by_probability(trained: Path, scene: tuple) -> None:
    predictor = Predictor(DENSECLIP, trained, device='cpu')
    predictor.set_image(scene[0])
    before = predictor.predict()
    model = init_model(str(DENSECLIP), str(trained), device='cpu')
    logits = inference_model(model, np.ascontiguousarray(scene[0][..., ::-1])).seg_logits.data
    np.testing.assert_allclose(before.scores, logits.softmax(0).amax(0), atol=1e-6)
    threshold = float(np.median(before.scores))
    given = predictor.predict(other=threshold)
    np.testing.assert_array_equal(
        given.labels, np.where(before.scores < threshold, 30, before.labels))


def test_what_other_refuses(scene: tuple) -> None:
    with pytest.raises(ValueError, match=r"'snow' alone .*, predict\.py --other 0\.2"):
        Predictor(ZERO_SHOT, device='cpu', class_names=['snow'])
    for wrong in (1.5, float('nan')):
        with pytest.raises(ValueError, match=f'a probability, at most 1, got {wrong}'):
            Predictor(ZERO_SHOT, device='cpu', other=wrong)
