"""What could go wrong without a word: names, pictures, masks, checkpoints, losses, class orders."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.datasets.check import check_split
from denseclip_mm.engine.hooks import CheckLossHook
from denseclip_mm.models.class_order import disagreement
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
CLASSES = ['road', 'tree', 'sky']
Attack = tuple[str, str, str]


def outcome(call: Callable[[], Any], right: Callable[[Any], bool]) -> str:
    """How a call ends; a result that is not right is silently wrong."""
    try:
        return 'fine' if right(call()) else 'wrong'
    except (ValueError, OSError, FloatingPointError) as error:
        return 'clear' if '\n' not in str(error) else 'trace'
    except Exception:
        return 'trace'


def refuse(_: Any) -> bool:
    """No result is right."""
    return False


def attacks(folder: Path, long: bool) -> Iterator[Attack]:
    """Kind, case and outcome of each attack.

    Args:
        folder: an empty folder to write into.
        long: all of them, 230 pictures among them; else a few of each kind.
    """
    init_default_scope('mmseg')
    yield from _names(folder)
    yield from _orders(long)
    yield from _checkpoints(folder)
    yield from _losses()
    yield from _masks(folder)
    yield from _pictures(folder, long)


def _names(folder: Path) -> Iterator[Attack]:
    for hidden in '\ufeff\u200b\u200d\u2060\u00ad\x00\x07\x7f\u202e':
        for place in (f'{hidden}traffic light', f'traffic{hidden} light', f'traffic light{hidden}'):
            yield 'names', repr(place), outcome(
                lambda place=place: read_class_names([place, 'sky']),
                ['traffic light', 'sky'].__eq__)
    for space in ('  ', '\t', '\u00a0', '_', '\u3000', ' _ '):
        yield 'names', repr(space), outcome(
            lambda space=space: read_class_names([f'traffic{space}light']),
            ['traffic light'].__eq__)
    for faulty in ([], [''], ['a', 'A'], ['a;a'], ['a; A'], ['a', 'b;a'], ['a_b', 'a b'], ['a,b'],
                   ['café', 'cafe\u0301'], ['a - b', 'a-b'], ['&amp;', '&'], ['1:wall', '2:sky'],
                   [None, 'a'], [True], [1, 2], {'a': 1}, 7, None, 'no_such_alias', 'a' * 10**5,
                   ['a' * 10**5], ['\u200b', 'a'], [';'], ['a;;b'], '\0'):
        yield 'names', repr(faulty)[:60], outcome(
            lambda faulty=faulty: read_class_names(faulty), refuse)
    texts = [('road\ntree\nsky\n', True), ('\ufeffroad\ntree\nsky', True),
             ('road\r\ntree\r\nsky\r\n', True),
             ('0:invalid_class_id\n1:road\n2:tree\n3:sky\n', True),
             ('0:road\n1:tree\n2:sky', True), ('3:road\n1:tree', False), ('road, tree, sky', False),
             ('road\n\ntree', False), ('', False)]
    for index, (text, is_read) in enumerate(texts):
        path = folder / f'names{index}.txt'
        path.write_bytes(text.encode())
        yield 'lists', repr(text), outcome(lambda path=path: read_class_names(str(path)),
                                           CLASSES.__eq__ if is_read else refuse)
    for encoding in ('utf-16', 'utf-32', 'latin-1'):
        path = folder / f'{encoding}.txt'
        path.write_bytes('Straße\nTür'.encode(encoding))
        yield 'lists', encoding, outcome(lambda path=path: read_class_names(str(path)), refuse)


def _orders(long: bool) -> Iterator[Attack]:
    names = ['road;street', 'tree', 'sky', 'car', 'sea'] if long else ['road;street', 'tree', 'sky']
    for order in itertools.permutations(range(len(names))):
        classes = [names[index].split(';')[0] for index in order]
        fault = disagreement(names, classes, 'the training set')
        right = bool(fault) == (list(order) != sorted(order))
        ended = 'clear' if fault else 'fine'
        yield 'class orders', ' '.join(classes), ended if right else 'wrong'


def _small_model(classes: list[str], **neck: Any) -> torch.nn.Module:
    cfg = Config.fromfile(ROOT / 'configs/demo/denseclip_fpn_scenes.py').model
    cfg.neck.update(class_names=classes, **neck)
    for head in (cfg.decode_head, cfg.auxiliary_head):
        head.update(num_classes=len(classes), sampler=None)
    return MODELS.build(cfg)


def _checkpoints(folder: Path) -> Iterator[Attack]:
    model = _small_model(CLASSES)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    meta = dict(dataset_meta=dict(classes=CLASSES))
    bias = 'decode_head.conv_seg.bias'
    cases = {
        'itself': dict(state_dict=state, meta=meta),
        'empty': {}, 'an empty state dict': dict(state_dict={}), 'a list': [1, 2],
        'a tensor': torch.zeros(3),
        'text for tensors': dict(state_dict=dict.fromkeys(state, 'text')),
        'another order': dict(
            state_dict=state, meta=dict(dataset_meta=dict(classes=CLASSES[::-1]))),
        'other classes': dict(state_dict=_small_model([*CLASSES, 'sea']).state_dict()),
        'another prompt': dict(state_dict=_small_model(
            CLASSES, prompt=dict(type='LearnedContext', num_context=4)).state_dict()),
        'a part': dict(state_dict={key: value for key, value in state.items() if 'neck' in key}),
        'more than the model': dict(state_dict={**state, 'extra.weight': torch.zeros(1)}),
    }
    for number in (math.nan, math.inf, -math.inf):
        cases[f'{number} in a bias'] = dict(state_dict={
            **state, bias: torch.tensor([0.0, number, 0.0])})
    for case, content in cases.items():
        path = folder / 'case.pth'
        torch.save(content, path)
        yield 'wrong checkpoints', case, outcome(
            lambda path=path: load_checkpoint(model, path),
            meta.__eq__ if case == 'itself' else refuse)
        if case not in ('itself', 'other classes'):  # the latter is fine-tuning
            yield 'wrong checkpoints', f'{case}, to train from', outcome(
                lambda path=path: load_checkpoint(model, path, new_classes=True), refuse)


def _losses() -> Iterator[Attack]:
    model = torch.nn.Identity()
    for number in (math.nan, math.inf, -math.inf):
        for count in (1, 9, 10, 11):
            losses = iter([1.0, *[number] * count, 1.0])
            runner = SimpleNamespace(model=model, iter=0, message_hub=SimpleNamespace(
                get_scalar=lambda _, losses=losses: SimpleNamespace(current=lambda: next(losses))))

            def train(runner: SimpleNamespace = runner, count: int = count) -> int:
                hook = CheckLossHook()
                hook.before_train(runner)
                for index in range(count + 2):
                    hook.after_train_iter(runner, index, {})
                return count
            yield 'lost losses', f'{number} {count} times', outcome(train, lambda seen: seen < 10)


def _masks(folder: Path) -> Iterator[Attack]:
    labels = np.array([[0, 1, 2, 255]] * 3)
    odd = {
        'as it should be': (labels.astype(np.uint8), True),
        'palette': (labels.astype(np.uint8), True),
        'booleans': (labels > 0, True), '16 bits': (labels.astype(np.uint16), True),
        'over 255': (np.where(labels == 2, 299, labels).astype(np.uint16), False),
        'no class': (np.where(labels == 2, 3, labels).astype(np.uint8), False),
        'colours': (np.zeros((3, 4, 3), np.uint8), False),
        'RGBA': (np.zeros((3, 4, 4), np.uint8), False),
        'floats': (labels.astype(np.float32), False), 'turned': (labels.T.astype(np.uint8), False),
        'void': (np.full((3, 4), 255, np.uint8), False),
        'large': (np.zeros((13500, 13500), bool), False)}
    for case, (mask, is_right) in odd.items():
        root = folder / 'masks' / case
        for kind in ('images', 'masks'):
            (root / kind).mkdir(parents=True)
        Image.fromarray(np.full((3, 4, 3), 90, np.uint8)).save(root / 'images/a.png')
        picture = Image.fromarray(mask)
        if case == 'palette':
            picture.putpalette(list(range(256)) * 3)
        picture.save(root / 'masks/a.png', 'TIFF' if case == 'floats' else 'PNG')
        dataset = dict(type='BaseSegDataset', data_root=str(root), metainfo=dict(classes=CLASSES),
                       img_suffix='.png', data_prefix=dict(img_path='images', seg_map_path='masks'),
                       pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
        cfg = Config(dict(train_dataloader=dict(dataset=dataset)))

        def said(cfg: Config = cfg) -> int:
            report = check_split(cfg, 'train')
            return len(report.errors()) + any('void' in line for line in report.warnings())
        ended = outcome(said, lambda lines, is_right=is_right: bool(lines) != is_right)
        yield 'masks', case, 'clear' if ended == 'fine' and not is_right else ended


def _odd_pictures(folder: Path) -> Iterator[Path]:
    """Pictures of many kinds, as files; 230 of them."""
    rng = np.random.default_rng(0)
    modes = ('RGB', 'RGBA', 'L', 'LA', 'P', '1', 'CMYK', 'I;16')
    endings = ('png', 'jpg', 'bmp', 'webp', 'tif', 'gif')
    for mode, ending, (height, width) in itertools.product(
            modes, endings, ((64, 96), (1, 1), (33, 17))):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        path = folder / f'{mode.replace(";", "")}-{height}x{width}.{ending}'
        try:
            picture.convert('I' if mode == 'I;16' else mode).save(path)
        except (OSError, ValueError):  # there is no such picture
            continue
        yield path
    for bits, channels, height in itertools.product((12, 16), (1, 3, 4), (64, 65)):
        path = folder / f'{bits}-{channels}-{height}.png'
        cv2.imwrite(str(path), rng.integers(0, 2**bits, (height, 64, channels)).astype(np.uint16))
        yield path
    whole = Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8))
    for turn, ending in itertools.product(range(9), ('jpg', 'png', 'webp', 'tif')):
        exif = Image.Exif()
        exif[0x0112] = turn
        whole.save(folder / f'turned-{turn}.{ending}', exif=exif)
        yield folder / f'turned-{turn}.{ending}'
    for ending, cut in itertools.product(endings, range(0, 100, 7)):
        whole.save(folder / f'whole.{ending}')
        content = (folder / f'whole.{ending}').read_bytes()
        path = folder / f'cut-{cut}.{ending}'
        path.write_bytes(content[:len(content) * cut // 100])
        yield path


def _pictures(folder: Path, long: bool) -> Iterator[Attack]:
    """The model gets what the config's own pipeline gives it in ``tools/test.py``, or nothing."""
    paths = list(_odd_pictures(folder))[::1 if long else 12]
    for load in ('color', 'unchanged', 'color_ignore_orientation')[:3 if long else 2]:
        config = folder / f'{load}.py'
        config.write_text(f"_base_ = '{ZERO_SHOT}'\ntest_pipeline = [dict(type='LoadImageFrom"
                          f"File', color_type='{load}'), dict(type='PackSegInputs')]\n")
        predictor, seen = Predictor(config, device='cpu'), []
        predictor.model.backbone.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0]))
        pipeline = Compose(Config.fromfile(config).test_pipeline)
        for path in paths:
            def is_loaded(prediction: Any, path: Path = path, predictor: Predictor = predictor,
                          pipeline: Compose = pipeline, seen: list = seen) -> bool:
                data = pipeline(dict(img_path=str(path)))
                batch = predictor.model.data_preprocessor(
                    {key: [value] for key, value in data.items()}, False)
                return (torch.equal(seen[-1], batch['inputs'])
                        and prediction.image.dtype == np.uint8
                        and prediction.image.shape[:2] == prediction.labels.shape)
            yield f'pictures, {load}', path.name, outcome(
                lambda path=path, predictor=predictor: predictor(path), is_loaded)
