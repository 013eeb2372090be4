"""Regions of a picture and their names: floors on scenes, what is painted, what is refused."""

import json
import re
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

from denseclip_mm.apis import Predictor
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.apis.regions import assign_regions
from denseclip_mm.apis.regions.colour_prompts import Colours, _groups, paint_regions, search_colours
from denseclip_mm.apis.regions.masks import read_coco_boxes, read_label_map, read_regions
from denseclip_mm.apis.regions.scores import ask, look
from denseclip_mm.demo.things import draw_things
from denseclip_mm.text import CLIPTextTower, grow_trees

import numpy as np
import pytest
import torch
from mmseg.models import EncoderDecoder
from PIL import Image
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
SCENES = [draw_things(5, index) for index in range(24)]  # no choice was made on them


@pytest.fixture(scope='module')
def model() -> EncoderDecoder:
    return Predictor(ROOT / 'configs/demo/zero_shot_scenes.py', device='cpu').model


def share_right(model: EncoderDecoder, **options: object) -> float:
    return float(np.mean([
        assign_regions(model, image, masks, shapes, one_to_one=True, **options)[1] == np.arange(4)
        for image, masks, shapes in SCENES]))


def test_as_many_regions_as_the_memory_holds() -> None:
    assert len(read_regions(np.arange(256, 1280).reshape(32, 32), (32, 32))) == 1024
    assert read_regions(np.arange(64).repeat(64).reshape(64, 64), (64, 64)).shape == (64, 64, 64)
    for many in (np.arange(256, 1281).reshape(25, 41), np.tile([0, 0, 9, 9], (1025, 1)),
                 np.broadcast_to(np.ones((1, 1), bool), (1025, 25, 41))):
        with pytest.raises(ValueError, match=r'there are 1,025 regions, and at most 1,024 of a'):
            read_regions(many, (25, 41))
    masks = np.broadcast_to(np.ones((1, 1), bool), (22, 10_000, 10_000))
    with pytest.raises(ValueError, match=r'are 22 regions, and at most 21 of a picture of 10,000 x '
                       '10,000 pixels are named at a time; give fewer, or a smaller picture'):
        read_regions(masks, (10_000, 10_000))


def test_floor_of_pooling(model) -> None:
    assert share_right(model, how='pool') >= 0.95


def test_floor_of_colours(model) -> None:
    """As the prompt search finds them, on other scenes."""
    found = [draw_things(6, index) for index in range(2)]
    colours = search_colours(model, [image for image, _, _ in found],
                             [masks for _, masks, _ in found], ['star', 'ring', 'cross', 'square'])
    assert colours.opacity == 1.0 and len(colours.rgb) >= 4
    assert share_right(model, how='colour', colours=colours) >= 0.85


def test_blur_is_no_guess(model) -> None:
    assert share_right(model, how='blur') >= 0.75


def test_pooling_is_the_mean_of_the_cells(model) -> None:
    image, masks, names = SCENES[0]
    batch = model.data_preprocessor(dict(inputs=[torch.from_numpy(
        image[..., ::-1].transpose(2, 0, 1).copy())]))
    with torch.no_grad():
        _, dense = model.backbone(batch['inputs'])[-1]
        text = model.neck.text_encoder
        sentences = [f'a photo of a {name}.' for name in names]
        texts = torch.stack([_embed(text, each) for each in sentences])
        cells = dense[0].permute(1, 2, 0)
        rows = []
        for mask in masks:
            share = torch.from_numpy(mask).float().view(16, 8, 16, 8).mean((1, 3))
            rows.append((cells * share[..., None]).sum((0, 1)) / share.sum())
        expected = F.cosine_similarity(texts[:, None], torch.stack(rows)[None], dim=2)
    scores, assigned = assign_regions(model, image, masks, names)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_array_equal(assigned, expected.argmax(0))


def _embed(tower: CLIPTextTower, sentence: str) -> torch.Tensor:
    return tower(grow_trees([tower.prompt(tower.tokenize(sentence))]))[0, 0]


def test_cells_of_padding_are_no_region(model) -> None:
    """The picture on twice its side: the cells that pooling and colours take are its own."""
    image, masks, names = SCENES[0]
    padding = model.data_preprocessor.test_cfg
    model.data_preprocessor.test_cfg = dict(size=(256, 256))
    try:
        scores = {how: assign_regions(model, image, masks, names, how=how)[0]
                  for how in ('pool', 'colour')}
        _, dense_PCHW = look(model, [image, image[::-1]])
    finally:
        model.data_preprocessor.test_cfg = padding
    inputs = model.data_preprocessor(dict(inputs=[torch.from_numpy(
        image[..., ::-1].transpose(2, 0, 1).copy())]))['inputs']
    inputs = F.pad(inputs, (0, 128, 0, 128))
    with torch.no_grad():
        own_PC, whole_PCHW = model.backbone(inputs)[-1]
    torch.testing.assert_close(dense_PCHW[:1], whole_PCHW[..., :16, :16], atol=1e-4, rtol=0)
    seen = own_PC, whole_PCHW[..., :16, :16]
    shares = torch.from_numpy(masks).float().view(4, 16, 8, 16, 8).mean((2, 4))
    pooled = torch.einsum('chw,rhw->cr', seen[1][0], shares / shares.sum((1, 2), keepdim=True))
    expected = ask(model, names, seen, pooled[None, :, None])[0, :, 0]
    np.testing.assert_allclose(scores['pool'], expected, atol=1e-4)
    assert scores['colour'].shape == (4, 4)


def test_a_region_has_its_score_whatever_others_there_are(model) -> None:
    """Optimal transport would balance the synonyms over the regions; one alone has their mean."""
    image, masks, names = SCENES[3]
    names = [f'{name};five {name};{name} thing' for name in names]
    synonyms = model.neck.vocabulary.synonyms
    scores = {}
    try:
        for model.neck.vocabulary.synonyms in ('transport', 'mean'):
            together, _ = assign_regions(model, image, masks, names)
            alone = [assign_regions(model, image, mask[None], names)[0] for mask in masks]
            np.testing.assert_allclose(together, np.concatenate(alone, 1), atol=1e-6)
            scores[model.neck.vocabulary.synonyms] = together
    finally:
        model.neck.vocabulary.synonyms = synonyms
    np.testing.assert_allclose(scores['transport'], scores['mean'], atol=1e-6)


def test_one_region_alone_is_its_colour_in_the_best_cell(model) -> None:
    """Against the score map of the painted picture, which the model's own inference makes."""
    image, masks, names = SCENES[1]
    colours = Colours(opacity=1.0, template='a {colour} {name}')
    scores, _ = assign_regions(model, image, masks[:1], names, how='colour', colours=colours)
    painted = image.copy()
    painted[masks[0]] = (240, 0, 30)
    features = model.backbone(model.data_preprocessor(dict(inputs=[torch.from_numpy(
        painted[..., ::-1].transpose(2, 0, 1).copy())]))['inputs'])
    view = answer_names(model, [f'a red {name}' for name in names])
    with torch.no_grad():
        expected = view.neck(features)[-1].amax((2, 3))[0]
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)


def test_more_regions_than_colours(model) -> None:
    """As many pictures as are needed: each region gets what it gets in a smaller party."""
    image, masks, names = SCENES[2]
    two = Colours({'red': (240, 0, 30), 'blue': (0, 10, 255)}, opacity=1.0)
    together, _ = assign_regions(model, image, masks, names, how='colour', colours=two)
    for first in (0, 2):
        pair, _ = assign_regions(model, image, masks[first:first + 2], names, how='colour',
                                 colours=two)
        np.testing.assert_allclose(together[:, first:first + 2], pair, atol=1e-5)


def test_overlapping_regions_are_painted_in_pictures_of_their_own() -> None:
    masks = np.zeros((4, 2, 3), bool)
    masks[0, 0] = masks[1, :, 0] = masks[2, 1, 1:] = masks[3, 1, 2] = True
    assert _groups(masks, 5) == [[0, 2], [1, 3]]
    assert _groups(masks, 1) == [[0], [1], [2], [3]]


def test_what_is_outside_stays_as_it_is() -> None:
    image, masks, _ = SCENES[3]
    before = image.copy()
    rgb = [(240, 0, 30), (0, 10, 255)]
    painted = paint_regions(image, masks[:2], rgb, 127 / 255)
    outside = ~masks[:2].any(0)
    assert np.array_equal(painted[outside], before[outside]) and np.array_equal(image, before)
    for mask, colour in zip(masks, rgb, strict=False):
        expected = np.round(before[mask] * (128 / 255) + np.array(colour) * (127 / 255))
        np.testing.assert_array_equal(painted[mask], expected)


def test_names_and_regions_in_any_number(model) -> None:
    image, masks, names = SCENES[4]
    scores, assigned = assign_regions(model, image, masks, names[:1])
    assert scores.shape == (1, 4) and assigned.tolist() == [0] * 4
    _, assigned = assign_regions(model, image, masks, names[:2], one_to_one=True)
    assert sorted(assigned) == [-1, -1, 0, 1]
    _, assigned = assign_regions(model, image, masks[:2], names, one_to_one=True)
    assert len(set(assigned)) == 2 and -1 not in assigned


def test_the_assignment_has_the_largest_sum(model) -> None:
    image, masks, names = SCENES[5]
    scores, assigned = assign_regions(model, image, masks, names, how='blur', one_to_one=True)
    best = max(permutations(range(4)), key=lambda order: scores[order, range(4)].sum())
    assert assigned.tolist() == list(best)


def test_forms_of_regions() -> None:
    boxes = read_regions([[-3, 0.4, 2, 1.6], [2, 1, 99, 99]], (3, 4))
    assert boxes.astype(int).tolist() == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]]
    labels = np.array([[5, 5, 255, 0], [5, 255, 255, 0], [9, 9, 9, 9]])
    of_labels = read_regions(labels, (3, 4))
    assert [each.sum() for each in of_labels] == [2, 3, 4]
    assert np.array_equal(read_regions(of_labels.astype(np.uint8) * 7, (3, 4)), of_labels)
    assert np.array_equal(read_regions(of_labels.astype(float), (3, 4)), of_labels)
    assert np.array_equal(read_regions(of_labels[1], (3, 4)), of_labels[1:2])  # one mask


def test_tensors_are_regions() -> None:
    masks = torch.zeros(2, 3, 4)
    masks[0, 1] = masks[1, 2] = 1
    for regions in (masks, masks.bool(), masks.requires_grad_(), list(masks), tuple(masks)):
        assert np.array_equal(read_regions(regions, (3, 4)), masks.detach().numpy() == 1)
    assert read_regions(torch.tensor([[0., 0, 4, 1]], requires_grad=True), (3, 4)).sum() == 4


@pytest.mark.parametrize(('regions', 'message'), [
    ([], 'there is no region to name'),
    (3, 'there is no region to name'),
    (np.zeros((2, 3, 4)), 'region 0 has no pixel in the picture of 4 x 3 pixels'),
    ([[0, 0, 2, 2], [4, 0, 9, 3]], 'region 1 has no pixel in the picture of 4 x 3 pixels'),
    ([[2, 2, 1, 3]], 'region 0 has no pixel'),
    ([[0, 0, float('nan'), 2]], 'a box has a corner that is no number'),
    (np.ones((2, 4, 3)), r'shape (2, 4, 3) are neither masks (R, 3, 4), nor boxes (R, 4), nor a'),
    (np.ones((5, 5)), 'shape (5, 5) are neither'),
    (np.full((3, 4), 255), 'region 0 has no pixel'),
    (np.eye(3, 4, dtype=np.uint8) * 255, 'a label map of 0 and 255 alone looks like a mask, and'),
    (np.eye(3, 4) / 2, 'a label map holds numbers that are not whole'),
    (np.eye(3, 4)[None] * 0.7, 'a mask holds other numbers than 0 and 1; say from which on'),
    (np.eye(3, 4)[None] * float('nan'), 'a mask holds other numbers than 0 and 1'),
    ([[0, 0, 2], [1]], 'regions are of different sizes'),
    ([['a', 'b', 'c', 'd']], 'regions are numbers'),
])
def test_regions_that_are_none(regions: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_regions(regions, (3, 4))


def test_the_search_keeps_what_is_named_right(model) -> None:
    image, masks, names = SCENES[6]
    asked = Colours({'red': (0, 10, 255), 'green': (0, 255, 0), 'yellow': (255, 255, 25)})
    found = search_colours(model, [image], [masks], names, colours=asked, opacities=[0.1, 1.0])
    assert dict(found.rgb) == {'green': (0, 255, 0), 'yellow': (255, 255, 25)}
    assert found.opacity == 1.0 and asked.opacity == 127 / 255


def test_a_model_without_language() -> None:
    model = SimpleNamespace(neck=None)
    with pytest.raises(ValueError, match='names need a score map, which the neck PixelTextNeck'):
        ask(model, ['star'], (torch.zeros(1, 2), torch.zeros(1, 2, 1, 1)), torch.zeros(1, 2, 1, 1))


def test_refusals(model) -> None:
    image, masks, names = SCENES[0]
    for options, message in (
            (dict(how='guess'), "how must be 'pool', 'colour' or 'blur', got 'guess'"),
            (dict(names=['star', 'star']), "'star' stands twice"),
            (dict(picture=image[..., 0]), r'a picture is (H, W, 3), uint8, RGB; got (128, 128), '),
            (dict(picture=torch.from_numpy(image.copy())), 'uint8, RGB; got a Tensor'),
            (dict(regions=masks[:, :64]), 'are neither masks (R, 128, 128)')):
        arguments = dict(picture=image, regions=masks, names=names) | options
        with pytest.raises(ValueError, match=re.escape(message)):
            assign_regions(model, **arguments)
    for options, message in ((dict(rgb={}), '0 colours'), (dict(opacity=0), 'and 0'),
                             (dict(template='{name}'), "once each, got '{name}'"),
                             (dict(rgb={'red': (300, 0, -20)}), "'red' is (300, 0, -20), not red"),
                             (dict(rgb={'red': (200, )}), "'red' is (200,), not red"),
                             (dict(rgb={'red': '#ff0000'}), "'red' is '#ff0000', not red"),
                             (dict(rgb={'red': (np.nan, 0, 0)}), "'red' is (nan, 0, 0), not red"),
                             (dict(rgb=['red']), 'a dict of names with red, green and blue, got')):
        with pytest.raises(ValueError, match=re.escape(message)):
            Colours(**options)
    with pytest.raises(ValueError, match='a search compares colours, and red is the only one'):
        search_colours(model, [image], [masks], names, colours=Colours({'red': (255, 0, 0)}))
    for pictures in ([], [image, image]):
        with pytest.raises(ValueError, match=f'got {len(pictures)} pictures and regions of 1'):
            search_colours(model, pictures, [masks], names)
    view = answer_names(model, names)
    del view.cfg
    with pytest.raises(ValueError, match='regions need the model that a config describes'):
        assign_regions(view, image, masks, names)
    with pytest.raises(ValueError, match='names none of the colours mauve, green right'):
        search_colours(model, [image], [masks], names, opacities=[1.0],
                       colours=Colours({'mauve': (1, 200, 3), 'green': (250, 0, 0)}))


def test_files(tmp_path) -> None:
    labels = np.array([[0, 3], [7, 3]], np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / 'labels.png')
    assert np.array_equal(read_label_map(tmp_path / 'labels.png'), labels)
    Image.new('RGB', (2, 2)).save(tmp_path / 'rgb.png')
    (tmp_path / 'text.png').write_text('no picture')
    for name, message in (('rgb.png', 'has 3 channels; masks and labels have one'),
                          ('text.png', 'is no picture that Pillow can read'),
                          ('none.png', 'is no picture that Pillow can read')):
        with pytest.raises(ValueError, match=message):
            read_label_map(tmp_path / name)
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps(dict(
        images=[dict(id=4, file_name='a/x.png'), dict(id=5, file_name='y.png')],
        annotations=[dict(image_id=4, bbox=[1, 2, 3, 4]), dict(image_id=5, bbox=[5, 6, 7, 8])])))
    assert read_coco_boxes(path, 'b/y.png').tolist() == [[5, 6, 12, 14]]
    with pytest.raises(ValueError, match=r"has no box of a picture named 'z\.png'"):
        read_coco_boxes(path, 'z.png')
    for text in ('[]', 'x', '{"annotations": [{"bbox": [1, 2]}]}', '{"annotations": 3}',
                 '{"annotations": [{"bbox": "abcd"}]}', '[' * 9999):
        path.write_text(text)
        with pytest.raises(ValueError, match='is no COCO file'):
            read_coco_boxes(path, 'x.png')
    with pytest.raises(FileNotFoundError, match='there is no file'):
        read_coco_boxes(tmp_path / 'no.json', 'x.png')


def test_boxes_are_of_this_picture_and_no_other(tmp_path: Path, monkeypatch) -> None:
    """Whose path ends most like the picture's; what does not tell is refused."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'coco.json'

    def boxes(names: list[str], picture: str) -> list:
        path.write_text(json.dumps(dict(
            images=[dict(id=number, file_name=name) for number, name in enumerate(names)],
            annotations=[dict(image_id=number, bbox=[number, 0, 1, 1]) for number in range(3)])))
        return read_coco_boxes(path, picture)[:, 0].tolist()
    assert boxes(['x/a.png', 'y/a.png', 'a.jpg'], 'some/y/a.png') == [1]
    assert boxes(['x/a.png', 'a.png', 'z/w/a.png'], 'y/a.png') == [1]
    assert boxes(['x/a.png', 'w/x/a.png', 'v/x/a.png'], 'v/x/a.png') == [2]
    assert boxes(['x/a.png'], 'moved/a.png') == [0]
    Path('x').mkdir()
    monkeypatch.chdir('x')
    assert boxes(['y/a.png', 'x/a.png'], 'a.png') == [1]
    for names in (['x/a.png', 'y/a.png'], ['a.png', 'a.png']):
        with pytest.raises(ValueError, match=r'coco\.json has 2 images that may be z/a\.png; give'):
            boxes(names, 'z/a.png')
    with pytest.raises(ValueError, match=r'has 3 images that may be a\.png'):
        boxes([], 'a.png')
    for entries in ([[0, 0, 1, 1, 5, 5, 6, 6]], [[0, 0, 1], [0, 0, 1, 1, 1]], [[0], [1], [2], [3]]):
        path.write_text(json.dumps(dict(
            annotations=[dict(image_id=1, bbox=box) for box in entries])))
        with pytest.raises(ValueError, match='is no COCO file'):
            read_coco_boxes(path, 'a.png')
