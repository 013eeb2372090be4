"""COCO files: what is silently wrong, or ends the run later, is refused before training."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.datasets.annotations import judge
from denseclip_mm.datasets.check import check_split
from denseclip_mm.datasets.coco import check_annotations
from denseclip_mm.datasets.coco_file import Use
from denseclip_mm.datasets.outlines import examine, run_lengths

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

pytest.importorskip('mmdet')

ROOT = Path(__file__).resolve().parents[2]
SCENES = ROOT / 'configs/detection/denseclip_mask_rcnn_scenes.py'
NAMES = ('red square', 'blue ring', 'a star')
Coco = dict[str, list[dict[str, Any]]]


@pytest.fixture
def coco(tmp_path) -> Coco:
    """Six pictures of 96 x 128 (height x width), and a thing of each class in turn in five."""
    (tmp_path / 'pictures').mkdir()
    images = [dict(id=100 + 7 * place, file_name=f'p{place}.png', height=96, width=128)
              for place in range(6)]
    for image in images:
        Image.new('RGB', (128, 96), (90, 99, 120)).save(tmp_path / 'pictures' / image['file_name'])
    return dict(
        images=images,
        annotations=[dict(id=place + 1, image_id=100 + 7 * place, iscrowd=0, area=2000,
                          category_id=(3, 17, 90)[place % 3], bbox=[30, 20, 40, 50],
                          segmentation=[[30, 20, 70, 20, 70, 70, 30, 70]]) for place in range(5)],
        categories=[dict(id=number, name=name)
                    for number, name in zip((3, 17, 90), NAMES, strict=True)])


@pytest.fixture
def save(tmp_path) -> Callable[..., Path]:
    def save(content: Any, name: str = 'file.json') -> Path:
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path / name
    return save


def every(kind: str, **values: Any) -> Callable[[Coco], None]:
    """All entries of a kind get these values; ``...`` takes a key away."""
    def change(coco: Coco) -> None:
        for entry in coco[kind]:
            one(entry, values)
    return change


def some(kind: str, place: int, **values: Any) -> Callable[[Coco], None]:
    """One entry of a kind gets these values."""
    return lambda coco: one(coco[kind][place], values)


def one(entry: dict, values: dict[str, Any]) -> None:
    entry.update(values)
    for key in [key for key, value in values.items() if value is ...]:
        del entry[key]


def runs(counts: Any, size: Any = (96, 128)) -> Callable[[Coco], None]:
    return every('annotations', segmentation=dict(size=list(size), counts=counts))


TRAIN, VAL = dict(split='train', masks=True), dict(split='val', masks=True, measured=True)
BOXES = dict(split='train')
EVERYWHERE = [  # a change, and how the only error goes on
    # categories
    (lambda coco: coco['categories'].sort(key=lambda each: each['name']),
     r"its categories are in another order than metainfo's classes: 'a star' is class 0 here and 2 "
     r"there, and .* write metainfo=dict\(classes=\['a star', 'blue ring', 'red square'\]\)"),
    (some('categories', 1, name='blue rings'),
     "metainfo has the class 'blue ring', which is no category here; did you mean 'blue rings'"),
    (some('categories', 1, name='BLUE_RING'),
     "metainfo has the class 'blue ring', which is .*; write 'BLUE_RING', as the file does"),
    (some('categories', 2, name='fish'),
     "metainfo has the class 'a star', which is no category here; it has .*'fish'"),
    (lambda coco: coco['categories'].insert(0, dict(id=0, name='red square')),
     "2 of its categories have the name 'red square', which mmdet takes for as many"),
    (some('categories', 1, id=3), r'ids of categories that stand twice: 1 \(3\)'),
    (some('categories', 1, name=None), "categories whose 'name' is of another form: 1"),
    (some('categories', 1, name=...), "categories without 'name': 1"),
    (lambda coco: coco['categories'].clear(), "metainfo has the class 'red square'"),
    # images
    (every('images', height=...), r"images without 'height': 6 \(100, 107, 114 and 3 more\); write "
     '"height": 480, in pixels'),
    (some('images', 0, width='128'), r"images whose 'width' is of another form: 1 \(100: '128'\)"),
    (some('images', 0, height=math.nan), r"images whose 'height' is .*: 1 \(100: nan\)"),
    (some('images', 0, file_name=3), r"images whose 'file_name' is .*: 1 \(100: 3\)"),
    (some('images', 0, file_name='a\0b'), "images whose 'file_name' is"),
    (some('images', 0, id=...), r"images without 'id': 1 \('number 0'\)"),
    (some('images', 0, id=[1]), r"images whose 'id' is of another form: 1 \(\[1\]: \[1\]\)"),
    (some('images', 1, id=100), r'ids of images that stand twice: 1 \(100\)'),
    (lambda coco: one(coco['images'][5], dict(id='x')), 'ids of images that are numbers, and'),
    (lambda coco: (coco['images'].clear(), coco['annotations'].clear()), 'no image is left of it'),
    # annotations
    (every('annotations', area=...), r"annotations without 'area': 5 \(1, 2, 3 and 2 more\); write "
     r'"area": 1600, in pixels \(width \* height of the box will do\)$'),
    (every('annotations', bbox=...), r"annotations without 'bbox': 5 .*\[x, y, width, height\]"),
    (every('annotations', id=...), r"annotations without 'id': 5 \('number 0', "),
    (some('annotations', 0, image_id=...), "annotations without 'image_id': 1"),
    (some('annotations', 0, category_id=...), "annotations without 'category_id': 1"),
    (some('annotations', 0, area='9'), r"annotations whose 'area' is .*: 1 \(1: '9'\)"),
    (some('annotations', 0, area=math.nan), "annotations whose 'area' is"),
    (some('annotations', 0, bbox=[math.nan, 1, 9, 9]), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=[1, 1, math.inf, 9]), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=[1, 1, 10**400, 9]), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=['1', '1', '9', '9']), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=[1, 1, 9, 9, 9]), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=[True, 1, 9, 9]), "annotations whose 'bbox' is"),
    (some('annotations', 0, bbox=dict(x=1, y=1, w=9, h=9)), "annotations whose 'bbox' is"),
    (every('annotations', iscrowd='0'), r"annotations whose 'iscrowd' is .*: 5 \(1: '0', .*write "
     '"iscrowd": 0$'),
    (some('annotations', 0, iscrowd=None), "annotations whose 'iscrowd' is"),
    (some('annotations', 0, image_id=5), r'annotations of images that the .*\(1: 5\)'),
    (some('annotations', 0, image_id='100'), r"annotations of images that .*\(1: '100'\)"),
    (some('annotations', 0, category_id=4), r'annotations of categories that the .*\(1: 4\); list'),
    (every('annotations', category_id='3'), r"annotations of categories that .*: 5 \(1: '3'"),
    (some('annotations', 1, id=1), r'ids of annotations that stand twice: 1 \(1\)'),
    (lambda coco: coco.pop('annotations'), 'none of its boxes can be .* measured: it has no annot'),
    (every('annotations', iscrowd=1), r'none of its boxes .*: boxes of crowds: 5 \(1: \[30, 20, '),
    (every('annotations', bbox=[200, 200, 40, 40]), 'none .*: boxes outside of their picture: 5'),
    (every('annotations', bbox=[30, 20, 0, 50]), 'none of its .*: boxes of less than a pixel: 5'),
    (every('annotations', bbox=[0.2, 0.2, 0.3, 0.5]), 'none of .*: boxes of less than a pixel: 5'),
    (every('annotations', bbox=[70, 70, -40, -50]), 'none of .*: boxes of less than a pixel: 5'),
    (every('annotations', area=0), r'none of its .*: boxes whose area is 0 or less: 5 \(1: 0, '),
    (every('annotations', ignore=1), 'none of its boxes .*: boxes with "ignore": 5'),
    # outlines
    (every('annotations', segmentation=...), r'annotations without an outline: 5 \(1: None, .*, or '
     r'train and measure boxes alone \(LoadAnnotations\(with_mask=False\)'),
    (some('annotations', 2, segmentation=[]), 'annotations without an outline: 1'),
    (every('annotations', segmentation=[30, 20, 70, 20, 70, 70]), 'annotations whose segmentation'),
    (every('annotations', segmentation=[['30', '20', '70', '20', '70', '70']]), 'annotations who'),
    (every('annotations', segmentation='5'), 'annotations whose segmentation is neither a list of'),
    (some('annotations', 0, segmentation=[[30, 20, 70, 20, math.nan, 70]]), 'polygons with points'),
    (some('annotations', 0, segmentation=[[30, 20, 70, 20, math.inf, 70]]), 'polygons with points'),
    (some('annotations', 0, segmentation=[[30, 20, 70, 20, 1e8, 70]]), 'polygons with points that'),
    (some('annotations', 0, segmentation=[[30, 20, 70, 20, 10**400, 70]]), 'polygons with points'),
    (runs([100, 20]), 'run lengths that are damaged or of another size than the picture: 5'),
    (runs([100, 20, 64 * 128 - 120], (64, 128)), 'run lengths that are damaged'),
    (runs([-5, 10, 96 * 128 - 5]), 'run lengths that are damaged'),
    (runs([96 * 128], None or ()), 'run lengths that are damaged'),
    (runs(''), 'run lengths that are damaged'), (runs('hello'), 'run lengths that are damaged'),
    (runs('é'), 'run lengths that are damaged'), (runs(None), 'run lengths that are damaged'),
    (runs(['a']), 'run lengths that are damaged'), (runs([[1], [2, 3]]), 'run lengths that are'),
    (runs([10**30]), 'run lengths that are damaged'),
    # corners for sizes: the first show by their outlines
    (every('annotations', bbox=[30, 20, 70, 70]), 'boxes that are not around their outlines: '
     r'5 \(1: \[30, 20, 70, 70\] of an outline from \[30, 20, 70, 70\], '),
    (every('annotations', bbox=[60, 60, 100, 90], segmentation=[[60, 60, 120, 60, 120, 90]]),
     'boxes that reach out of their picture: 5 .* and not its corners'),
]


@pytest.mark.parametrize('use', [TRAIN, VAL], ids=['train', 'val'])
@pytest.mark.parametrize(('change', 'error'), EVERYWHERE, ids=range(len(EVERYWHERE)))
def test_what_cannot_be_right(coco, save, change, error, use):
    path = save(coco)
    assert judge(Use(str(path), classes=NAMES, **use)).errors() == []
    change(coco)
    line = judge(Use(str(save(coco)), classes=NAMES, **use)).errors()[0]
    assert line.startswith(f'{path}: ') and '\n' not in line
    assert re.match(error, line.removeprefix(f'{path}: ')), line


@pytest.mark.parametrize(('change', 'use', 'error'), [
    # pycocotools looks up what mmdet does not
    (every('annotations', iscrowd=...), VAL, "annotations without 'iscrowd': 5 .*; write"),
    (every('annotations', iscrowd=...), TRAIN, None),
    (some('annotations', 0, id=0), VAL, r"annotations whose 'id' is of another form: 1 \(0: 0\); .*"
     'takes 0 for a box that is not found'),
    (some('annotations', 0, id=0), TRAIN, None),
    (some('annotations', 0, id='a'), VAL, "annotations whose 'id' is of another form"),
    (some('annotations', 0, id='a'), TRAIN, None),
    (every('annotations', segmentation=[[30, 20, 70, 70]]), VAL, 'polygons of fewer than three p'),
    (every('annotations', segmentation=[[30, 20, 70, 70]]), TRAIN, 'none of its boxes can be learn'
     r'ed or measured: boxes whose polygons have fewer than three points, or half a point: 5'),
    (every('annotations', segmentation=...), BOXES, None),
    (every('annotations', segmentation=[[30, 20, 70, 70]]), BOXES, None),
    (runs([20, 40 * 96, 96 * 128 - 40 * 96 - 20]), dict(TRAIN, polygons=True), 'none of its .*poly2'
     r'mask=False\) takes polygons alone'),
    # what mmdet leaves out need not have an outline
    (some('annotations', 0, bbox=[30, 20, 0, 50], segmentation=...), TRAIN, None),
    (some('annotations', 0, bbox=[30, 20, 0, 50], segmentation=...), VAL, 'annotations without an'),
    # filters
    (every('images', height=96), dict(TRAIN, min_size=100), 'no image is left of it; filter_cfg'),
    (lambda coco: coco.pop('annotations'), dict(TRAIN, filled=True), 'no image is left of it'),
    (lambda coco: coco.pop('annotations'), dict(split='test'), None),
])
def test_what_depends_on_the_use(coco, save, change, use, error):
    change(coco)
    lines = judge(Use(str(save(coco)), classes=NAMES, **use)).errors()
    assert (re.search(error, lines[0]) if error else not lines), lines


@pytest.mark.parametrize(('change', 'warning'), [
    (some('annotations', 0, bbox=[30, 20, 0.5, 50]), r'boxes of less than a pixel: 1 \(1: \[30, 20,'
     r' 0.5, 50\] of 128 x 96\); mmdet leaves them out'),
    (some('annotations', 0, bbox=[200, 20, 40, 50]), 'boxes outside of their picture: 1'),
    (some('annotations', 0, area=0), 'boxes whose area is 0 or less: 1'),
    (some('annotations', 0, ignore=1), 'boxes with "ignore": 1'),
    (some('annotations', 0, segmentation=[[1, 2, 3, 4]]), 'boxes whose polygons have few'),
    (some('annotations', 0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), 'boxes whose polygons have few'),
    (lambda coco: (coco['categories'].append(dict(id=5, name='tree')),
                   coco['annotations'][0].update(category_id=5)),
     r"categories that are no class of the config, and so background: 1 \('tree' \(1\)\)"),
])
def test_what_may_be_meant(coco, save, change, warning):
    change(coco)
    report = judge(Use(str(path := save(coco)), classes=NAMES, **TRAIN))
    line, = report.warnings()
    assert report.errors() == [] and re.match(warning, line.removeprefix(f'{path}: '))
    assert (report.boxes, report.bare) == ({0: 1, 1: 2, 2: 1}, 2)


def test_a_few_doubtful_boxes_count(coco, save):
    coco['annotations'][0].update(bbox=[30, 20, 60, 50])
    coco['annotations'][1].update(bbox=[100, 20, 30, 30],
                                  segmentation=[[100, 20, 130, 20, 130, 50]])
    report = judge(Use(str(save(coco)), classes=NAMES, **TRAIN))
    assert report.errors() == [] and report.boxes.total() == 5
    assert [line.split(': ')[1] for line in report.warnings()] == [
        'boxes that reach out of their picture', 'boxes that are not around their outlines']


@pytest.mark.parametrize(('text', 'error'), [
    ('', 'is no JSON in UTF-8: Expecting value'), ('{"images": [', 'is no JSON in UTF-8'),
    ('\ufeff{}', 'is no JSON in UTF-8: Unexpected UTF-8 BOM'),
    ('[' * 10**5, 'is no JSON in UTF-8'),
    ('1' * 5000, 'is no JSON in UTF-8: Exceeds'),
    ('[]', "is no file of COCO's instances, .*; 'images' is none"),
    ('{"images": {}}', "'images' is none"), ('{"images": [3]}', "'images' is none"),
    ('{"images": [], "categories": [], "annotations": null}', "'annotations' is none"),
])
def test_other_files(save, text, error):
    with pytest.raises(ValueError, match=error):
        judge(Use(str(save(text)), 'train', NAMES))


def test_a_file_in_latin_1(tmp_path):
    (tmp_path / 'a.json').write_bytes('{"é": 1}'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'a.json is no JSON in UTF-8: .utf-8. codec'):
        judge(Use(str(tmp_path / 'a.json'), 'train', NAMES))


def test_outlines_are_those_of_pycocotools():
    mask = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    for index in range(60):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        picture = (rng.random((height, width)) < rng.random()) if index % 2 else np.zeros(
            (height, width), bool)
        picture[rng.integers(height):, rng.integers(width):][:5, :7] = True
        encoded = mask.encode(np.asfortranarray(picture.astype(np.uint8)))
        column = picture.T.ravel().astype(np.int8)
        lengths = np.diff(np.r_[0, np.flatnonzero(np.diff(column, prepend=0)), column.size])
        assert run_lengths(encoded['counts'].decode()).tolist() == lengths.tolist()
        left, top, wide, high = mask.toBbox(encoded)
        for counts in (encoded['counts'].decode(), lengths.tolist()):
            assert examine(dict(size=[height, width], counts=counts), height, width, True) == (
                left, top, left + wide, top + high)


# --- a config ------------------------------------------------------------------------------------


@pytest.fixture
def config(coco, save, tmp_path) -> Path:
    """Of the small Mask R-CNN on the file of ``coco``; a test may write another."""
    data = dict(data_root=str(tmp_path), ann_file='file.json', data_prefix=dict(img='pictures'),
                metainfo=dict(classes=list(NAMES)))
    save(coco)
    (tmp_path / 'config.py').write_text(f"""
_base_ = '{SCENES}'
model = dict(neck=dict(class_names={list(NAMES)}), roi_head=dict(
    bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)))
train_dataloader = dict(batch_size=2, dataset=dict(**{data}))
val_dataloader = dict(dataset=dict(**{data}))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{tmp_path}/file.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=1, val_interval=1)
""")
    return tmp_path / 'config.py'


@pytest.fixture
def load(config) -> Callable[..., Config]:
    def load(**options: Any) -> Config:
        return load_config(str(config), options={
            key.replace('__', '.'): value for key, value in options.items()}, launcher='none',
            work_dir=None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield load


TRAIN_SET = 'train_dataloader__dataset__'


def refused(cfg: Config, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_annotations(cfg, 'train_dataloader', 'val_dataloader')


def test_labels_are_those_that_mmdet_loads(load, coco):
    """Counted with its own dataset; the sixth picture has no box and is left out."""
    from mmdet.registry import DATASETS
    cfg = load()
    assert check_annotations(cfg, 'train_dataloader', 'val_dataloader') == []
    for split, count, bare in (('train', 5, 0), ('val', 6, 1)):
        report, dataset = check_split(cfg, split), DATASETS.build(
            cfg[f'{split}_dataloader'].dataset)
        loaded = [dataset.get_data_info(index)['instances'] for index in range(len(dataset))]
        assert report.num_images == len(loaded) == count
        assert report.bare == bare == sum(not each for each in loaded)
        assert report.boxes == Counter(box['bbox_label'] for each in loaded for box in each)
        assert report.images == Counter(box['bbox_label'] for each in loaded for box in each)
        assert report.errors() == report.warnings() == []


def test_scenes_are_read():
    cfg = load_config(str(SCENES), launcher='none', work_dir=None, options={
        'train_dataloader.dataset.ann_file': 'scene://128/things-0-3.json'})
    with DefaultScope.overwrite_default_scope('mmdet'):
        report = check_split(cfg, 'train')
    assert report.num_images == 3 and report.errors() == [] and report.boxes.total() > 3
    line, = [line for line in report.warnings() if 'background' in line]
    assert line.startswith('scene://128/things-0-3.json: categories that are no class of the conf')


def test_every_error_is_counted_and_one_is_said(load, coco, save):
    every('annotations', area=...)(coco)
    some('annotations', 0, bbox=...)(coco)
    save(coco)
    refused(load(), r"^train_dataloader: .*file.json: annotations without 'bbox': 1 .* \(and 1 "
            r'more\); tools/check_dataset.py lists all$')
    assert len(check_split(load(), 'train').errors()) == 2


@pytest.mark.parametrize(('options', 'message'), [
    ({TRAIN_SET + 'ann_file': 'lost.json'}, "there is no annotation file '.*/lost.json' .looked"),
    ({TRAIN_SET + 'ann_file': ''}, 'train_dataloader.dataset has no ann_file; write ann_file='),
    ({TRAIN_SET + 'data_prefix': dict(_delete_=True, img_path='pictures')},
     'train_dataloader.dataset has no data_prefix'),
    ({TRAIN_SET + 'metainfo__classes': 'red square'}, "metainfo.classes has to be a list of names, "
     "got 'red square'; write"),
    ({TRAIN_SET + 'data_prefix__img': '.'}, r'pictures that are not there: 5 \(.*/p0.png, .*data'),
])
def test_what_a_config_gets_wrong(load, options, message):
    refused(load(**options), message)


def test_pictures(load, coco, save, tmp_path):
    """Of the training the sixth is never read, of the validation it is."""
    (tmp_path / 'pictures/p5.png').unlink()
    check_annotations(load(), 'train_dataloader')
    refused(load(), r'val_dataloader: .*file.json: pictures that are not there: 1 \(.*/p5.png\); p')
    subset = load(val_dataloader__dataset__indices=2)
    assert check_annotations(subset, 'val_dataloader') == []
    cv2.imwrite(str(tmp_path / 'pictures/p5.png'), np.zeros((128, 96, 3), np.uint8))
    refused(load(), r'val_.*pictures of another size than the file says: 1 \(.*/p5.png: \(128, 96\)'
            r', but the file says \(96, 128\)\); write')
    (tmp_path / 'pictures/p5.png').write_text('none')
    refused(load(), r'val_.*images that cannot be read: 1 \(.*/p5.png: ')


def test_all_pictures_are_read_where_a_training_reads_a_few(load, coco, save, tmp_path):
    for index in range(50):
        cv2.imwrite(str(tmp_path / f'pictures/more{index}.png'), np.zeros(
            (90 if index == 31 else 96, 128, 3), np.uint8))
        coco['images'].append(dict(id=index, file_name=f'more{index}.png', height=96, width=128))
    save(coco)
    check_annotations(load(), 'val_dataloader')
    line, = check_split(load(), 'val').errors()
    assert re.search(r'pictures of another size than the file says: 1 \(.*more31.png', line)


def test_the_file_of_the_metric(load, coco, save, tmp_path):
    """Another name for the same file, or its copy, will do."""
    (tmp_path / 'link.json').symlink_to('file.json')
    save(coco, 'copy.json')
    for name in ('link', 'copy'):
        path = str(tmp_path / f'{name}.json')
        assert check_annotations(load(val_evaluator__ann_file=path), 'val_dataloader') == []
    coco['images'][5]['file_name'] = 'p4.png'
    copy = str(save(coco, 'copy.json'))
    refused(load(val_evaluator__ann_file=copy), 'copy.json: val_evaluator measures by it, but it '
            r'has other images than .*/file.json, which the model sees; give both the s')
    refused(load(val_evaluator__ann_file='lost.json'), "no annotation file 'lost.json'")
    coco['categories'].reverse()
    save(coco, 'copy.json')
    refused(load(val_evaluator__ann_file=copy), 'copy.json: its categories are in another order')


def test_what_is_not_measured_may_lack_what_pycocotools_needs(load, coco, save):
    every('annotations', iscrowd=...)(coco)
    save(coco)
    refused(load(), "val_dataloader: .*annotations without 'iscrowd'")
    coco['annotations'].clear()
    save(coco)
    alone = load(test_evaluator__format_only=True, test_evaluator__outfile_prefix='x')
    assert 'never occur' in check_annotations(alone, 'test_dataloader')[0]
    with pytest.raises(ValueError, match='none of its boxes can be learned or measured: it has no'):
        check_annotations(load(), 'test_dataloader')


def test_wrappers(load, coco, save, tmp_path):
    other = deepcopy(coco)
    other['categories'].reverse()
    save(other, 'other.json')
    cfg = load()
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=dict(
        type='ConcatDataset', datasets=[inner, inner]))
    report = check_split(cfg, 'train')
    assert report.boxes == {0: 4, 1: 4, 2: 2} and report.num_images == 10 and not report.errors()
    cfg.train_dataloader.dataset.dataset.datasets[1] = dict(inner, ann_file='other.json')
    refused(cfg, 'train_dataloader: .*other.json: its categories are in another order')
    cfg.train_dataloader.dataset.dataset.datasets[1] = dict(inner, metainfo=dict(
        classes=list(NAMES[::-1])))
    refused(cfg, 'datasets.1 has other classes than the datasets it is joined with')


def test_datasets_that_read_in_ways_of_their_own(load):
    cfg = load()
    cfg.train_dataloader.dataset = dict(type='VOCDataset', ann_file='list.txt')
    check_annotations(cfg, 'train_dataloader')
    with pytest.raises(ValueError, match=r'train_dataloader.dataset is a VOCDataset, which reads'):
        check_split(cfg, 'train')
    cfg.train_dataloader.dataset = dict(type='CocoDataset', ann_fil='x')
    check_annotations(cfg, 'train_dataloader')  # mmengine meets it, and its entry is named
    with pytest.raises(ValueError, match=r"train_dataloader.dataset: .*keyword argument 'ann_fil'"):
        check_split(cfg, 'train')


def test_a_file_that_was_mended_is_read_anew(load, coco, save):
    names = [category.pop('name') for category in coco['categories']]
    save(coco)
    refused(load(), "categories without 'name': 3")
    for category, name in zip(coco['categories'], names, strict=True):
        category['name'] = name
    save(coco)
    assert check_annotations(load(), 'train_dataloader') == []


def test_heads_have_to_agree(load):
    lines = check_split(load(model__roi_head__mask_head__num_classes=5), 'train').errors()
    assert lines == ['roi_head.mask_head.num_classes is 5, but the train set has 3 classes; make '
                     'them equal']


# --- the tools -----------------------------------------------------------------------------------


def test_tools(config, coco, save, run_tool, succeed, tmp_path):
    printed = succeed('check_dataset', config, cwd=tmp_path)
    assert 'val: 6 images, 1 without a box\n' in printed and 'no errors' in printed
    assert re.search(r'^class +boxes +share +images\nred square +2 +40.00% +2$', printed, re.M)
    coco['categories'].reverse()
    save(coco)
    done = run_tool('check_dataset', config, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.count('error: ') == 2  # train, and val as test
    for tool in ('train', 'test'):
        done = run_tool(tool, config, cwd=tmp_path)
        assert done.returncode == 1 and 'Traceback' not in done.stderr
        assert re.match(f'error: {tool}_dataloader: .*file.json: its categories are in another ord',
                        done.stderr.strip().splitlines()[-1])
    assert not (tmp_path / 'work_dirs').exists()


def test_mmdet_s_own_tools_are_stopped_by_the_hook(load, coco, save, tmp_path):
    """A runner without our tools, as mmdet's train.py has."""
    from mmengine.runner import Runner
    coco['categories'].reverse()
    save(coco)
    cfg = load(work_dir=str(tmp_path / 'run'))
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=r'train_dataloader: .*its categories are in another ord'):
        runner.train()
    assert runner.iter == 0
