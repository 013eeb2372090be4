"""Procedural scenes: determinism, labels that agree with the picture, and mmseg's expectations."""

import math
from itertools import product

from denseclip_mm.demo import ScenesDataset
from denseclip_mm.demo.render import CLASSES, COLOURS, GROUNDS, SHAPES, render_scene, shape_mask

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.registry import METRICS
from torch.utils.data import DataLoader

NUM_SCENES = 300


@pytest.fixture(scope='module')
def scenes() -> list[dict]:
    return list(ScenesDataset(length=NUM_SCENES, seed=3))


def hue_of(bgr: np.ndarray) -> float:
    """Hue of a colour in degrees by the opponent-colour formula (Preucil 1953)."""
    blue, green, red = (float(channel) for channel in bgr)
    return math.degrees(math.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360


def test_sample_is_what_the_loading_steps_give(scenes: list[dict]) -> None:
    assert len(scenes) == NUM_SCENES
    for index, sample in enumerate(scenes):
        assert sample['img'].dtype == sample['gt_seg_map'].dtype == np.uint8
        assert sample['img'].shape == (128, 128, 3)
        assert sample['gt_seg_map'].shape == (128, 128)
        assert sample['img'].flags.c_contiguous
        assert sample['img_shape'] == sample['ori_shape'] == (128, 128)
        assert sample['img_path'] == f'scene://128/scene-3-{index}.png'
        assert sample['sample_idx'] == index
        assert sample['seg_fields'] == ['gt_seg_map']
        assert sample['label_map'] is None
        assert sample['reduce_zero_label'] is False


def test_scene_depends_on_seed_and_index_alone(scenes: list[dict]) -> None:
    other = ScenesDataset(length=10, seed=3, test_mode=True)
    for index in (9, 0, 4, 4):
        np.testing.assert_array_equal(other[index]['img'], scenes[index]['img'])
        np.testing.assert_array_equal(other[index]['gt_seg_map'], scenes[index]['gt_seg_map'])
    assert not np.array_equal(scenes[0]['img'], scenes[1]['img'])
    assert not np.array_equal(scenes[0]['img'], ScenesDataset(length=1, seed=4)[0]['img'])


def test_workers_and_subsets_give_the_same_scenes(scenes: list[dict]) -> None:
    dataset = ScenesDataset(length=6, seed=3)
    batches = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=list)
    for sample in [sample for batch in batches for sample in batch]:
        np.testing.assert_array_equal(sample['img'], scenes[sample['sample_idx']]['img'])
    subset = dataset.get_subset([5, 2])
    assert len(subset) == 2
    np.testing.assert_array_equal(subset[0]['img'], scenes[5]['img'])


def test_classes_are_composed_names() -> None:
    metainfo = ScenesDataset(length=1).metainfo
    things = [f'{colour} {shape}' for colour, shape in product(COLOURS, SHAPES)]
    assert metainfo['classes'] == (*things, *GROUNDS)
    assert {'red circle', 'orange ring', 'purple star', 'brick wall', 'snow'} < set(CLASSES)
    assert len(set(CLASSES)) == 42
    assert len(metainfo['palette']) == len(set(metainfo['palette'])) == 42
    assert all(0 <= channel <= 255 for colour in metainfo['palette'] for channel in colour)


def test_every_class_appears(scenes: list[dict]) -> None:
    areas = sum(np.bincount(sample['gt_seg_map'].ravel(), minlength=42) for sample in scenes)
    assert len(areas) == 42
    assert areas.min() > 500


def test_label_names_the_colour_in_the_picture(scenes: list[dict]) -> None:
    """Of each thing in each scene: no jitter or light may turn one colour into another."""
    hues = dict(red=0, orange=30, yellow=60, green=120, blue=225, purple=272)
    for sample in scenes:
        for label in np.unique(sample['gt_seg_map']):
            pixels = sample['img'][sample['gt_seg_map'] == label]
            if CLASSES[label] in GROUNDS or len(pixels) < 50:
                continue
            hue = hue_of(pixels.mean(0))
            nearest = min(hues, key=lambda name: abs((hue - hues[name] + 180) % 360 - 180))
            assert nearest == CLASSES[label].split()[0], (sample['img_path'], CLASSES[label], hue)


@pytest.mark.parametrize(('shape', 'filling'), [
    ('circle', 1), ('square', 0.64), ('triangle', 0.41), ('star', 0.39), ('cross', 0.62),
    ('ring', 0.70)])
def test_label_names_the_shape(scenes: list[dict], shape: str, filling: float) -> None:
    """How much of its enclosing circle a thing fills; the median, for some are hidden in part."""
    fillings = []
    for sample, colour in product(scenes, COLOURS):
        pixels = np.argwhere(sample['gt_seg_map'] == CLASSES.index(f'{colour} {shape}'))
        if len(pixels):
            _, radius = cv2.minEnclosingCircle(pixels.astype(np.float32))
            fillings.append(len(pixels) / (math.pi * (radius + 0.5) ** 2))
    assert np.median(fillings) == pytest.approx(filling, rel=0.1)


@pytest.mark.parametrize(('shape', 'area'), [
    ('circle', math.pi),
    ('square', 2),
    ('triangle', 0.75 * math.sqrt(3)),
    ('star', 5 * 0.42 * math.sin(math.pi / 5)),
    ('cross', 2 * 1.9 * 0.6 - 0.6 ** 2),
    ('ring', math.pi * (1 - 0.55 ** 2)),
])
@pytest.mark.parametrize('angle', [0.0, 1.1])
def test_mask_has_the_area_and_centre_of_the_shape(shape: str, area: float, angle: float) -> None:
    radius, centre = 20.3, (50.4, 70.8)
    mask = shape_mask(shape, centre=centre, radius=radius, angle=angle, size=128)
    assert mask.min() == 0
    assert mask.max() == 1
    # fillPoly takes in the subpixels on the outline: an eighth of a pixel on each side.
    for covered in (mask, mask >= 0.5):
        assert covered.sum() == pytest.approx(area * radius ** 2, rel=0.05)
    rows, columns = np.indices(mask.shape)
    centroid = (mask * columns).sum() / mask.sum(), (mask * rows).sum() / mask.sum()
    assert centroid == pytest.approx(centre, abs=0.1)


@pytest.mark.parametrize('size', [32, 49, 256])
def test_other_sizes(size: int) -> None:
    image, labels, _ = render_scene(np.random.default_rng(0), size)
    assert image.shape == (size, size, 3)
    assert labels.shape == (size, size)
    assert image.std() > 10
    assert len(np.unique(labels)) > 1


def test_pipeline_packs_the_arrays(scenes: list[dict]) -> None:
    dataset = ScenesDataset(length=1, seed=3, pipeline=[dict(type='PackSegInputs')])
    packed = dataset[0]
    image = torch.from_numpy(scenes[0]['img']).permute(2, 0, 1)
    assert torch.equal(packed['inputs'], image)
    sample = packed['data_samples']
    assert torch.equal(sample.gt_sem_seg.data[0], torch.from_numpy(scenes[0]['gt_seg_map']).long())
    assert sample.img_path == 'scene://128/scene-3-0.png'
    assert sample.ori_shape == (128, 128)


def test_pipeline_augments() -> None:
    dataset = ScenesDataset(length=4, pipeline=[
        dict(type='RandomResize', scale=(128, 128), ratio_range=(1.0, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(96, 96), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PhotoMetricDistortion', hue_delta=4),
        dict(type='PackSegInputs'),
    ])
    for packed in dataset:
        assert packed['inputs'].shape == (3, 96, 96)
        assert packed['data_samples'].gt_sem_seg.data.shape == (1, 96, 96)
        assert packed['data_samples'].gt_sem_seg.data.max() < 42
        assert packed['data_samples'].flip


def test_perfect_prediction_scores_100() -> None:
    dataset = ScenesDataset(length=3, pipeline=[dict(type='PackSegInputs')])
    metric = METRICS.build(dict(type='IoUMetric'))
    metric.dataset_meta = dataset.metainfo
    samples = [packed['data_samples'] for packed in dataset]
    for sample in samples:
        sample.pred_sem_seg = sample.gt_sem_seg
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(len(samples))['mIoU'] == 100


def test_subset_of_classes_ignores_the_others(scenes: list[dict]) -> None:
    """What training without some of the names (zero-shot) needs."""
    kept = [name for name in CLASSES if name not in ('red star', 'snow')]
    dataset = ScenesDataset(length=NUM_SCENES, seed=3, metainfo=dict(classes=kept))
    index = next(index for index, sample in enumerate(scenes)
                 if CLASSES.index('red star') in sample['gt_seg_map'])
    full, labels = scenes[index]['gt_seg_map'], dataset[index]['gt_seg_map']
    dropped = np.isin(full, [CLASSES.index('red star'), CLASSES.index('snow')])
    assert labels.dtype == np.uint8
    assert (labels[dropped] == 255).all()
    np.testing.assert_array_equal(np.array(kept)[labels[~dropped]],
                                  np.array(CLASSES)[full[~dropped]])
    assert len(dataset.metainfo['palette']) == len(kept)


@pytest.mark.parametrize(('argument', 'message'), [
    (dict(length=0), r'length >= 1, got 0; give the number of scenes'),
    (dict(length=1, seed=-1), r'seed >= 0, got -1; give each split its own seed'),
    (dict(length=1, image_size=31), r'image_size >= 32, got 31; .* 128 is the default'),
    (dict(length=1, metainfo=dict(classes=['red cube'])), r"'red cube'.* is not a subset"),
])
def test_bad_arguments(argument: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScenesDataset(**argument)


def test_scenes_can_be_read_by_their_path():
    """As mmseg's visualisation hook and LoadImageFromFile read images."""
    dataset = ScenesDataset(length=3, seed=5, image_size=64)
    for sample in dataset:
        loaded = LoadImageFromFile()(dict(img_path=sample['img_path']))
        np.testing.assert_array_equal(loaded['img'], sample['img'])


@pytest.mark.parametrize('path', ['scene://64/scene-1.png', 'scene://64/scene-1-2.jpg'])
def test_paths_of_no_scene(path):
    with pytest.raises(FileNotFoundError, match=r'is no scene; its path would be like scene://128/'):
        fileio.get(path)
    with pytest.raises(NotImplementedError, match='is a picture'):
        fileio.get_text(path)
