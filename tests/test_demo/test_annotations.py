"""Boxes and masks of scenes, decoded by COCO's own tools and compared with the pictures."""

from denseclip_mm.demo.annotations import annotations_of, things_path
from denseclip_mm.demo.render import CLASSES, NEW_CLASSES
from denseclip_mm.demo.scenes import draw

import numpy as np
import pytest
from mmengine import fileio

SIZE = 64


@pytest.fixture(scope='module')
def content() -> dict:
    return annotations_of(things_path(3, 12, SIZE))


def decoded(runs: dict) -> np.ndarray:
    """Runs of zeros and ones, column by column."""
    values = np.concatenate([np.full(count, index % 2) for index, count in enumerate(
        runs['counts'])])
    return values.reshape(runs['size'][::-1]).T.astype(bool)


def test_masks_are_what_is_seen(content):
    """Together they are the pixels of things, with their names; a box is tight around its mask."""
    assert len(content['images']) == 12
    for image in content['images']:
        _, labels = draw(3, image['id'], SIZE)
        seen = np.full((SIZE, SIZE), 255)
        for each in content['annotations']:
            if each['image_id'] != image['id']:
                continue
            mask = decoded(each['segmentation'])
            assert each['area'] == mask.sum() > 0
            assert (seen[mask] == 255).all()  # no pixel has two things
            seen[mask] = each['category_id'] - 1
            rows, columns = np.nonzero(mask)
            x, y, width, height = each['bbox']
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        expected = np.where(labels < 36, labels, 255)
        np.testing.assert_array_equal(seen, expected)
    assert [each['name'] for each in content['categories']] == list(CLASSES[:36])


def test_coco_reads_them():
    """Mmdet's dataset, from the address: of the base classes only."""
    datasets = pytest.importorskip('mmdet.datasets')
    mask = pytest.importorskip('pycocotools.mask')
    base = [name for name in CLASSES[:36] if name not in NEW_CLASSES]
    dataset = datasets.CocoDataset(
        ann_file=things_path(3, 12, SIZE), data_prefix=dict(img=f'scene://{SIZE}'),
        metainfo=dict(classes=base), pipeline=[], test_mode=True)
    content = annotations_of(things_path(3, 12, SIZE))
    of_base = [each for each in content['annotations']
               if CLASSES[each['category_id'] - 1] in base]
    found = [(index, each) for index in range(len(dataset))
             for each in dataset.get_data_info(index)['instances']]
    assert len(dataset) == 12 and len(found) == len(of_base) < len(content['annotations'])
    for (index, instance), each in zip(found, of_base, strict=True):
        assert index == each['image_id']
        assert base[instance['bbox_label']] == CLASSES[each['category_id'] - 1]
        x, y, width, height = each['bbox']
        assert instance['bbox'] == [x, y, x + width, y + height]
        runs = instance['mask']
        np.testing.assert_array_equal(
            mask.decode(mask.frPyObjects(runs, *runs['size'])), decoded(runs))
    picture = fileio.get(dataset.get_data_info(0)['img_path'])
    assert picture.startswith(b'\x89PNG')


def test_what_is_no_such_path():
    with pytest.raises(FileNotFoundError, match=r'their path would be like scene://128/things'):
        fileio.get('scene://64/things.json')
