"""The step of a config that loads images, found and shown."""

from pathlib import Path

from denseclip_mm.apis.pictures import load_image, loading_step, shown
from denseclip_mm.demo.scenes import ScenesDataset

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmseg.datasets import BaseSegDataset

UNCHANGED = dict(type='LoadImageFromFile', color_type='unchanged')


def dataset(*steps: dict) -> BaseSegDataset:
    return BaseSegDataset(metainfo=dict(classes=['a'], palette=[[0, 0, 0]]), lazy_init=True,
                          pipeline=list(steps))


@pytest.mark.parametrize('wrap', [
    lambda one: one, lambda one: RepeatDataset(one, 2, lazy_init=True),
    lambda one: ConcatDataset([one, one], lazy_init=True)], ids=['plain', 'repeated', 'joined'])
def test_the_step_of_the_dataset(wrap) -> None:
    assert loading_step(wrap(dataset(UNCHANGED, dict(type='LoadAnnotations')))).color_type == (
        'unchanged')


def test_images_that_are_there_already() -> None:
    for steps in ([], [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]):
        assert loading_step(dataset(*steps)).color_type == 'color'
    scenes = ScenesDataset(length=1)
    image = load_image(scenes[0]['img_path'], loading_step(scenes))['img']
    assert np.array_equal(image, scenes[0]['img'])


def test_what_is_shown(tmp_path: Path) -> None:
    """Eight bits stay; more are scaled by the largest number."""
    rng = np.random.default_rng(0)
    for kind, most in ((np.uint8, 200), (np.uint16, 4000), (np.uint16, 200)):
        picture = rng.integers(0, most, (5, 7, 3)).astype(kind)
        cv2.imwrite(str(tmp_path / 'a.png'), picture)
        loaded = load_image(tmp_path / 'a.png', loading_step(dataset(UNCHANGED)))['img']
        assert np.array_equal(loaded, picture)
        scale = 255 / max(255, int(picture.max()))
        assert np.abs(shown(loaded) - picture[..., ::-1] * scale).max() <= 0.5
    assert shown(picture[..., 0]).shape == shown(picture[..., :1]).shape == (5, 7, 3)
