"""Predictor on detectors: mmdet's own boxes and masks, and names by the score map in them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from denseclip_mm import Detection, Predictor
from denseclip_mm.apis.checks.config import build_model, classes_of, load_config
from denseclip_mm.apis.open_vocabulary import mix_heads
from denseclip_mm.apis.pictures import distinct_colours
from denseclip_mm.apis.regions.scores import cells_of_picture
from denseclip_mm.demo.scenes import draw

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn import functional as F

pytest.importorskip('mmdet')

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.ascontiguousarray(draw(1, 55, 128)[0][..., ::-1])
NAMES = ['red thing', 'wooden floor', 'green;lime', 'orange circle', 'purple']
ANY_SCORE = dict(  # of a model that has learned nothing
    mask_rcnn='model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0)))\n',
    fcos='model = dict(test_cfg=dict(score_thr=0.0))\n')


@pytest.fixture(autouse=True)
def scope():
    """The default scope is as before afterwards; a detector makes it mmdet's."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """Config and checkpoint of a detector of the scenes that has its pretrained CLIP alone."""
    folder = tmp_path_factory.mktemp('detectors')

    def write(name: str) -> tuple[Path, Path]:
        config, checkpoint = folder / f'{name}.py', folder / f'{name}.pth'
        if not config.is_file():
            kind = next(kind for kind in ANY_SCORE if kind in name)
            config.write_text(
                f"_base_ = '{ROOT}/configs/detection/{name}_scenes.py'\n{ANY_SCORE[kind]}")
            torch.manual_seed(0)
            model = build_model(load_config(
                str(config), options=None, launcher='none', work_dir=None), 'cpu')
            model.init_weights()
            torch.save(dict(state_dict=model.state_dict()), checkpoint)
        return config, checkpoint
    return write


@pytest.mark.parametrize('name', ['denseclip_mask_rcnn', 'denseclip_fcos'])
def test_what_mmdet_finds(name, files):
    from mmdet.apis import inference_detector, init_detector
    config, checkpoint = files(name)
    given = Predictor(config, checkpoint, device='cpu')(IMAGE)
    model = init_detector(str(config), str(checkpoint), device='cpu')
    expected = inference_detector(model, IMAGE[..., ::-1]).pred_instances
    assert 0 < len(given.boxes) == len(expected)
    assert np.array_equal(given.boxes, expected.bboxes)
    assert np.array_equal(given.scores, expected.scores)
    assert np.array_equal(given.labels, expected.labels)
    if 'masks' in expected:
        assert np.array_equal(given.masks, expected.masks)
    else:
        assert given.masks is None
    assert np.all(np.diff(given.scores) <= 0)
    assert given.labelled_by == 'detector' and given.class_names == model.neck.class_names
    assert given.palette == distinct_colours(24)  # COCO's are of other classes
    np.testing.assert_allclose(given.cells, model.score_map[0], atol=1e-5)
    np.testing.assert_allclose(given.score_map, F.interpolate(
        model.score_map, (128, 128), mode='bilinear')[0], atol=1e-4)


def shares_of(region: np.ndarray) -> np.ndarray:
    """Which share of a region is in each cell of 8 x 8 pixels."""
    return region.reshape(16, 8, 16, 8).sum((1, 3)) / region.sum()


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    left, top = np.maximum(one[:2], other[:2])
    right, bottom = np.minimum(one[2:], other[2:])
    inter = max(0, right - left) * max(0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inter / (sum(areas) - inter)


@pytest.mark.parametrize('name', ['denseclip_mask_rcnn', 'denseclip_fcos'])
@pytest.mark.parametrize('names', [NAMES, [f'thing {number}' for number in range(24)]],
                         ids=['fewer', 'as many'])
def test_names_by_the_score_map(name, names, files):
    """Boxes stay those of the training; regions of one name that overlap become one."""
    predictor = Predictor(*files(name), device='cpu')
    own = predictor(IMAGE)
    predictor.set_class_names(names)
    given = predictor(IMAGE)
    assert given.labelled_by == predictor.labelled_by == 'score map in the boxes of the detector'
    assert given.class_names == names and given.cells.shape == (len(names), 16, 16)

    kept, labels = [], []
    for index, box in enumerate(own.boxes):
        region = np.zeros((128, 128), bool)
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        region[top:bottom, left:right] = True
        if own.masks is not None and own.masks[index].any():
            region = own.masks[index]
        label = int((given.cells * shares_of(region)).sum((1, 2)).argmax())
        if not any(labels[number] == label and overlap(own.boxes[other], box) > 0.5
                   for number, other in enumerate(kept)):
            kept.append(index)
            labels.append(label)
    assert len(set(labels)) > 1
    assert given.labels.tolist() == labels
    assert np.array_equal(given.boxes, own.boxes[kept])
    assert np.array_equal(given.scores, own.scores[kept])
    if own.masks is not None:
        assert np.array_equal(given.masks, own.masks[kept])


def test_the_picture_is_looked_at_once(files):
    predictor, looks = Predictor(*files('denseclip_mask_rcnn'), device='cpu'), []
    predictor.model.backbone.register_forward_hook(lambda *_: looks.append(1))
    predictor.set_image(IMAGE)
    own, other, again = (predictor.predict(names) for names in (None, NAMES, None))
    assert len(looks) == 1
    assert np.array_equal(own.boxes, again.boxes) and np.array_equal(own.labels, again.labels)
    assert other.class_names == NAMES and own.class_names != NAMES
    assert predictor.detects and predictor.labelled_by == 'detector'


def test_a_padded_picture(files):
    """100 rows of 128: the cells of the padding are cut off, and boxes are of the picture."""
    predictor = Predictor(*files('denseclip_mask_rcnn'), device='cpu', class_names=NAMES)
    given = predictor(IMAGE[:100])
    assert given.cells.shape == (5, 13, 16) and given.score_map.shape == (5, 100, 128)
    assert given.masks.shape[1:] == (100, 128) and given.boxes[:, 3].max() <= 100
    ramp = torch.arange(16.)[:, None] + 100 * torch.arange(16.)  # of both places
    cells = cells_of_picture(ramp[None, None], (100, 128), (128, 128))[0, 0]
    rows = ((torch.arange(13) + 0.5) / 13 * 12.5 - 0.5).clamp(min=0)
    torch.testing.assert_close(cells, rows[:, None] + 100 * torch.arange(16.), atol=1e-3, rtol=0)


def test_things_at_the_edge_have_a_region(files):
    """Boxes without a whole pixel, and empty masks."""
    predictor = Predictor(*files('denseclip_mask_rcnn'), device='cpu', class_names=NAMES)
    model = predictor.model
    stock = type(model).predict

    def predict(self, *args):
        result = stock(self, *args)
        found = result[0].pred_instances[:3]
        found.bboxes = torch.tensor([[127.9, 127.9, 128, 128], [0, 0, 0, 0], [5.2, 5.2, 5.3, 5.3]])
        found.masks = torch.zeros(3, 128, 128, dtype=torch.bool)
        result[0].pred_instances = found
        return result
    model.__class__ = type('Edges', (type(model), ), dict(predict=predict))
    given = predictor(IMAGE)
    corners = [given.cells[:, 15, 15], given.cells[:, 0, 0], given.cells[:, 0, 0]]
    assert set(given.labels) == {int(each.argmax()) for each in corners}


def test_what_is_refused(files, tmp_path):
    config, checkpoint = files('denseclip_mask_rcnn')
    predictor = Predictor(config, checkpoint, device='cpu')
    for names in (['cat'], ['cat', 'cat'], []):
        with pytest.raises(ValueError, match='name'):
            predictor.set_class_names(names)
    assert predictor(IMAGE).labelled_by == 'detector'
    with pytest.raises(ValueError, match='an ensemble needs a decode head'):
        mix_heads(predictor.model, (0.5, 1))
    cfg = Config.fromfile(config)
    for key in ('detector', 'score_map_loss'):
        cfg.model.pop(key)
    cfg.model.type, cfg.model.neck.output_score_map = 'MaskRCNN', False
    cfg.dump(tmp_path / 'plain.py')
    plain = Predictor(tmp_path / 'plain.py', checkpoint, device='cpu')
    assert not plain.has_score_map and plain(IMAGE).score_map is None
    assert np.array_equal(plain(IMAGE).boxes, predictor(IMAGE).boxes)
    with pytest.raises(ValueError, match=r'names need a score map, .* in a ScoreMapDetector'):
        plain.set_class_names(NAMES)


def test_a_detector_without_language(files):
    predictor = Predictor(*files('clip_mask_rcnn'), device='cpu')
    given = predictor(IMAGE)
    assert not predictor.has_score_map and given.score_map is None and len(given.boxes)
    assert given.class_names[0] == 'red circle' and len(given.class_names) == 24
    with pytest.raises(ValueError, match='names need a score map'):
        predictor.set_class_names(NAMES)


def test_classes_of_coco_have_their_colours():
    from mmdet.datasets import CocoDataset
    cfg = Config(dict(default_scope='mmdet',
                      test_dataloader=dict(dataset=dict(type='CocoDataset'))))
    names, palette = classes_of(SimpleNamespace(cfg=cfg, num_classes=80), {})
    assert names == list(CocoDataset.METAINFO['classes'])
    assert palette == CocoDataset.METAINFO['palette']
    heads = torch.nn.ModuleDict(dict(rpn=torch.nn.Module(), head=torch.nn.Module()))
    heads['rpn'].num_classes, heads['head'].num_classes, heads.cfg = 1, 3, cfg
    assert classes_of(heads, {})[0] == ['class 0', 'class 1', 'class 2']


@pytest.fixture
def detection() -> Detection:
    """Two things of a grey picture of 600 x 500 pixels: the first partly on the second."""
    masks = np.zeros((2, 500, 600), bool)
    masks[0, 100:300, 100:300] = masks[1, 200:400, 200:400] = True
    return Detection(
        np.full((500, 600, 3), 100, np.uint8),
        np.array([[100, 100, 300, 300], [200, 200, 400, 400.5]]), np.array([0.9, 0.4]),
        np.array([1, 0]), masks, np.arange(4.).reshape(2, 2, 1), ['sky', 'a $x_{'],
        [(0, 0, 200), (200, 0, 0)], 'detector')


def test_overlay(detection):
    with pytest.raises(ValueError, match='opacity has to be 0 to 1, got 7'):
        detection.overlay(7)
    drawn = detection.overlay(0.5)
    assert drawn.shape == (500, 600, 3) and (detection.image == 100).all()
    assert drawn[150, 150].tolist() == drawn[250, 250].tolist() == [150, 50, 50]  # the better one
    assert drawn[350, 350].tolist() == [50, 50, 150] and drawn[450, 50].tolist() == [100] * 3
    assert drawn[200, 100].tolist() == [200, 0, 0] and drawn[400, 300].tolist() == [0, 0, 200]
    assert (drawn[85:99, 102:130] != 100).any()  # the name, as it is written
    alone = Detection(**{**vars(detection), 'masks': None}).overlay(1)
    assert alone[250, 250].tolist() == [100] * 3 and alone[200, 100].tolist() == [200, 0, 0]
    small = Detection(np.zeros((64, 128, 3), np.uint8), np.zeros((0, 4)), np.zeros(0),
                      np.zeros(0, int), None, None, ['a'], [(9, 9, 9)], 'detector')
    assert small.overlay().shape == (256, 512, 3) and not small.overlay().any()


def test_what_is_left_above_a_score(detection):
    kept = detection.above(0.9)
    assert kept.labels.tolist() == [1] and kept.boxes.tolist() == [[100, 100, 300, 300]]
    assert kept.masks.shape == (1, 500, 600) and detection.counts() == {1: 1, 0: 1}
    assert not len(detection.above(0.95).results(1))
    assert detection.score_map.shape == (2, 500, 600)


def test_results_are_coco_s(detection):
    from pycocotools.mask import decode
    first, second = detection.results('one')
    assert second['bbox'] == [200, 200, 200, 200.5] and second['score'] == 0.4
    assert [each['category_id'] for each in (first, second)] == [1, 0]
    assert first['image_id'] == 'one'
    for entry, mask in zip((first, second), detection.masks, strict=True):
        assert np.array_equal(decode(entry['segmentation']), mask)


def test_boxes_of_detectors_that_make_masks_alone(files):
    """Zeros stand for their boxes; things of one name that lie on each other are still one."""
    predictor = Predictor(*files('denseclip_mask_rcnn'), device='cpu', class_names=NAMES)
    stock = type(predictor.model).predict

    def predict(self, *args):
        result = stock(self, *args)
        found = result[0].pred_instances[:4]
        found.bboxes = torch.zeros(4, 4)
        found.masks = torch.zeros(4, 128, 128, dtype=torch.bool)
        found.masks[:2, 20:50, 10:90] = True  # twice the same
        found.masks[2, 100:101, 5:6] = True
        found.scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
        result[0].pred_instances = found
        return result

    type(predictor.model).predict = predict
    try:
        found = predictor(IMAGE)
    finally:
        type(predictor.model).predict = stock
    boxes = {tuple(box) for box in found.boxes.tolist()}
    assert boxes >= {(10, 20, 90, 50), (5, 100, 6, 101)} and len(found.boxes) == 3
