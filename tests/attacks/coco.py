"""COCO files that are wrong: labels, boxes and masks as mmdet loads them, APs as CocoMetric does.

What a run accepts is loaded by mmdet's own dataset and measured by its own metric with the truth as
prediction: another name, box or AP than that of the file is silently wrong.
"""

import importlib.util
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.datasets import check_annotations, check_split

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NAMES, NUMBERS = ['red square', 'blue ring', 'a star'], (3, 17, 90)
PATIENCE = 60  # seconds that a file may take
Coco = dict[str, list[dict[str, Any]]]

_spec = importlib.util.spec_from_file_location(
    'attacks_configs', Path(__file__).parent / 'configs.py')
configs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(configs)


def attacks(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Kind, case and outcome of each attack.

    Args:
        folder: an empty folder to write into.
        long: all of them, 150 files at random, and train.py and check_dataset.py on some; else a
            dozen of each kind, and no tool.
    """
    if importlib.util.find_spec('mmdet') is None:
        return
    torch.set_num_threads(1)
    whole, config = make_good(folder)
    init_default_scope('mmdet')
    import mmdet.datasets  # noqa: F401  (once, before the forks)
    cases = {'as it should be': lambda coco: None, **CASES}
    for name in cases if long else [*cases][::9]:
        ended = judge(spoilt(whole, cases[name]), folder, config)
        needed = 'fine' if name in ('as it should be', *RIGHT) else 'clear'
        yield 'COCO files', name, ended if ended not in ('fine', 'clear') or (
            ended == needed) else 'wrong'
    for seed in range(150 if long else 10):
        yield 'COCO files at random', f'seed {seed}', judge(
            at_random(whole, random.Random(seed)), folder, config)
    if not long:
        return
    for name in ('as it should be', *TRAINED):
        (folder / 'file.json').write_text(spoilt(whole, cases[name]))
        for tool in ('check_dataset', 'train'):
            ended = configs.outcome(*configs.run(tool, [config], folder), needed=name in TRAINED)
            yield f'COCO files, {tool}.py', name, ended
    yield from _joined(folder, config)


def make_good(folder: Path) -> tuple[Coco, Path]:
    """Six pictures with a thing of each class in turn in five, and the config of a detector."""
    (folder / 'pictures').mkdir()
    images = [dict(id=100 + 7 * place, file_name=f'p{place}.png', height=96, width=128)
              for place in range(6)]
    for image in images:
        Image.new('RGB', (128, 96), (90, 99, 120)).save(folder / 'pictures' / image['file_name'])
    annotations = [dict(
        id=place + 1, image_id=100 + 7 * (place // 2), category_id=NUMBERS[place % 3], iscrowd=0,
        bbox=[20 + place, 20, 40, 50], area=2000,
        segmentation=[[20 + place, 20, 60 + place, 20, 60 + place, 70, 20 + place, 70]])
        for place in range(10)]
    data = dict(data_root=str(folder), ann_file='file.json', data_prefix=dict(img='pictures'),
                metainfo=dict(classes=NAMES))
    (folder / 'config.py').write_text(f"""
_base_ = '{ROOT}/configs/detection/denseclip_mask_rcnn_scenes.py'
model = dict(neck=dict(class_names={NAMES}), roi_head=dict(
    bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)))
train_dataloader = dict(batch_size=2, dataset=dict(**{data}))
val_dataloader = dict(dataset=dict(**{data}))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{folder}/file.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=1, val_interval=1)
""")
    return dict(images=images, annotations=annotations, categories=[
        dict(id=number, name=name) for number, name in zip(NUMBERS, NAMES, strict=True)]), (
            folder / 'config.py')


def every(kind: str, key: str, value: Any) -> Callable[[Coco], None]:
    """All entries of a kind get this value; ``...`` takes the key away."""
    def change(coco: Coco) -> None:
        for entry in coco[kind]:
            entry.pop(key, None) if value is ... else entry.update({key: value})
    return change


def some(kind: str, key: str, value: Any) -> Callable[[Coco], None]:
    """The second entry of a kind gets this value."""
    return lambda coco: every(kind, key, value)({kind: coco[kind][1:2]})


def _numbered_from_0(coco: Coco) -> None:
    for annotation in coco['annotations']:
        annotation['id'] -= 1


def _shifted(key: str, by: int) -> Callable[[Coco], None]:
    return lambda coco: [each.update({key: each[key] + by}) for each in coco['annotations']]


CASES: dict[str, Callable[[Coco], Any]] = {
    'categories by the alphabet': lambda coco: coco['categories'].sort(
        key=lambda each: each['name']),
    'categories the other way round': lambda coco: coco['categories'].reverse(),
    'a category misspelt': some('categories', 'name', 'blue rings'),
    'a category in capitals': some('categories', 'name', 'Blue Ring'),
    'a parent of the same name': lambda coco: coco['categories'].insert(
        0, dict(id=0, name='red square')),
    'a category missing': lambda coco: coco['categories'].pop(1),
    'a category with the id of another': some('categories', 'id', 3),
    'another category among them': lambda coco: coco['categories'].insert(
        1, dict(id=1, name='tree')),
    'annotations numbered from 0': _numbered_from_0,
    'categories off by one': _shifted('category_id', -1), 'images off by one': _shifted(
        'image_id', -1),
    'an id twice': some('annotations', 'id', 1), 'an image twice': some('images', 'id', 100),
    'no annotations': lambda coco: coco.pop('annotations'),
    'no images': lambda coco: coco['images'].clear(),
    'lost pictures': every('images', 'file_name', 'lost.png'),
    'pictures of another size': every('images', 'height', 128),
    'a run of lengths': every('annotations', 'segmentation', dict(
        size=[96, 128], counts=[20 * 96 + 20, *[50, 46] * 39, 50, 26 + 68 * 96])),
    **{f'{key} of {name} is {value!r}': change(name, key, value)
       for change in (every, some) for name, keys in dict(
           images=('id', 'file_name', 'height', 'width'), categories=('id', 'name'),
           annotations=('id', 'image_id', 'category_id', 'bbox', 'area', 'segmentation',
                        'iscrowd')).items() for key in keys
       for value in (..., None, 'x', [], math.nan)},
    **{f'boxes {box}': every('annotations', 'bbox', box) for box in (
        [200, 200, 40, 40], [20, 20, 0, 50], [20, 20, 60, 70], [0.1, 0.2, 0.3, 0.5],
        [60, 70, -40, -50], [20, 20, math.inf, 50], [20, 20, 40], [True, 20, 40, 50])},
    'boxes of no area': every('annotations', 'area', 0),
    'crowds': every('annotations', 'iscrowd', 1), 'flags as text': every(
        'annotations', 'iscrowd', '0'),
    'all ignored': every('annotations', 'ignore', 1),
    **{f'outlines {outline!r:.60}': every('annotations', 'segmentation', outline) for outline in (
        [[20, 20, 60, 70]], [[20, 20]], [[]], [20, 20, 60, 20, 60, 70], [['20'] * 8],
        [[20, 20, 60, 20, math.nan, 70]], [[20, 20, 60, 20, math.inf, 70]],
        [[20, 20, 60, 20, 1e8, 70]], [[20, 20, 60, 20, 10**30, 70]], [[20, 20, 24, 20, 24, 24]],
        dict(size=[96, 128], counts=[100, 20]), dict(size=[96, 128], counts=''),
        dict(size=[96, 128], counts='hello'), dict(size=[64, 64], counts=[4096]),
        dict(size=[96, 128], counts=[-1, 96 * 128 + 1]), dict(counts=[1]), {'size': [96, 128]})},
}
RIGHT = ('another category among them', 'a run of lengths')
TRAINED = ('categories by the alphabet', 'a category misspelt', 'a parent of the same name',
           'annotations numbered from 0', 'crowds', 'outlines [[20, 20, 60, 70]]',
           'boxes [200, 200, 40, 40]', 'boxes [20, 20, 60, 70]', 'area of annotations is Ellipsis',
           'iscrowd of annotations is Ellipsis', 'height of images is Ellipsis')
VALUES = (..., None, True, 0, 1, -1, 3, 17, 100, 0.5, -7.5, 1e12, 2**70, math.nan, math.inf, '',
          'x', '3', 'red square', '\0', '\ud800', 'ü', [], {}, [1], [1, 2, 3, 4], [[1, 2, 3, 4]],
          [[5, 5, 9, 5, 9, 9]], [20, 20, 40, 50], {'size': [96, 128], 'counts': [12288]},
          {'size': [96, 128], 'counts': 'PQd0'}, 'p1.png', '../pictures/p2.png')


def spoilt(whole: Coco, change: Callable[[Coco], Any]) -> str:
    """The text of a file that was changed."""
    changed = deepcopy(whole)
    change(changed)
    return json.dumps(changed)


def at_random(whole: Coco, rng: random.Random) -> str:
    """The text of a file with one to three faults."""
    coco = deepcopy(whole)
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(('images', 'categories', 'annotations', 'annotations'))
        entries = coco[kind]
        what = rng.randrange(6)
        if what == 0 and entries:
            entries.append(deepcopy(rng.choice(entries)))
        elif what == 1 and entries:
            entries.remove(rng.choice(entries))
        elif what == 2:
            rng.shuffle(entries)
        elif entries:
            key = rng.choice([*entries[0]] or ['id'])
            value = rng.choice(VALUES)
            for entry in entries if what == 3 else [rng.choice(entries)]:
                entry.pop(key, None) if value is ... else entry.update({key: deepcopy(value)})
    text = json.dumps(coco)
    if rng.random() < 0.1:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(('', '"', '}', '0')) + text[place + rng.randint(0, 9):]
    return text


def judge(text: str, folder: Path, config: Path) -> str:
    """What comes of a file, in a process of its own, which pycocotools may end."""
    (folder / 'file.json').write_text(text)
    theirs, ours = get_context('fork').Pipe(duplex=False)
    process = get_context('fork').Process(target=_judge, args=(text, config, ours))
    process.start()
    ours.close()
    try:
        ended = theirs.recv() if theirs.poll(PATIENCE) else 'hang'
    except EOFError:  # a signal
        ended = 'trace'
    process.kill()
    process.join()
    return ended


def _judge(text: str, config: Path, result: Connection) -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    cfg = load_config(str(config), options=None, launcher='none', work_dir=None)
    try:
        warnings = check_annotations(cfg, 'train_dataloader', 'val_dataloader')
    except (ValueError, OSError) as error:
        result.send('clear' if '\n' not in str(error) and _is_said(cfg) else 'wrong')
        return
    except Exception:
        result.send('trace')
        return
    try:
        left_out = any('mmdet leaves' in line for line in warnings)
        result.send('fine' if _is_right(cfg, json.loads(text), left_out) else 'wrong')
    except Exception:
        result.send('trace')


def _is_said(cfg: Config) -> bool:
    """Whether check_dataset.py says something, too."""
    try:
        return any(check_split(cfg, split).errors() for split in ('train', 'val'))
    except (ValueError, OSError):
        return True


def _is_right(cfg: Config, coco: Coco, left_out: bool) -> bool:
    """Whether what mmdet loads has the names and boxes of the file, and is worth an AP of 1."""
    from mmdet.registry import DATASETS, METRICS
    names = {each['id']: each['name'] for each in coco['categories']}
    for split in ('train', 'val'):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        metric = METRICS.build(cfg.val_evaluator)
        metric.dataset_meta = dataset.metainfo
        count = 0
        for index in range(len(dataset)):
            sample = dataset[index]['data_samples']
            truth = sample.gt_instances
            if split == 'train':  # flipped at random, so the boxes of the others are compared
                labels = [box['bbox_label'] for box in dataset.get_data_info(index)['instances']]
                count += len(truth)
                wanted = [names[each['category_id']] for each in coco['annotations']
                          if each['image_id'] == dataset.get_data_info(index)['img_id']]
                if not {NAMES[label] for label in labels} <= {*wanted}:
                    return False
                continue
            boxes = truth.bboxes.tensor
            for box, label in zip(boxes.tolist(), truth.labels.tolist(), strict=True):
                if not any(each['image_id'] == sample.img_id
                           and names[each['category_id']] == NAMES[label] and np.allclose(
                               [box[0], box[1], box[2] - box[0], box[3] - box[1]], each['bbox'])
                           for each in coco['annotations']):
                    return False
            found = dict(bboxes=boxes, scores=torch.ones(len(boxes)), labels=truth.labels,
                         masks=torch.from_numpy(truth.masks.masks.astype(bool)))
            metric.process({}, [dict(img_id=sample.img_id, ori_shape=sample.ori_shape,
                                     pred_instances=found)])
        if split == 'train' and not count:
            return False
    found = metric.evaluate(len(dataset))
    return left_out or min(found['coco/bbox_mAP'], found['coco/segm_mAP']) == 1


def _joined(folder: Path, config: Path) -> Iterator[tuple[str, str, str]]:
    """Datasets of two orders of names, which mmengine joins if it is told to, and mmdet always."""
    (folder / 'segmentation').mkdir()
    good = configs.make_good(folder / 'segmentation')
    data = Config.fromfile(good).train_dataloader.dataset
    other = dict(data, metainfo=dict(classes=data.metainfo.classes[::-1]))
    configs.write(configs.change(good, 'train_dataloader.dataset', dict(
        type='ConcatDataset', datasets=[data.to_dict(), other], ignore_keys=['classes'])),
        folder / 'joined.py')
    inner = Config.fromfile(config).train_dataloader.dataset.to_dict()
    configs.write(configs.change(config, 'train_dataloader.dataset', dict(
        type='ConcatDataset', datasets=[inner, dict(inner, metainfo=dict(classes=NAMES[::-1]))])),
        folder / 'joined_boxes.py')
    for name in ('joined.py', 'joined_boxes.py'):
        for tool in ('check_dataset', 'train'):
            yield f'COCO files, {tool}.py', name, configs.outcome(
                *configs.run(tool, [folder / name], folder), needed=True)
