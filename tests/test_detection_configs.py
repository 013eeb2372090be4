"""Every detection config builds at full size and runs a training step and a test step."""

import json
from pathlib import Path

from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet')
from mmdet.registry import DATASETS, MODELS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs/detection').glob('*.py'))


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def write_coco(dataset: dict, root: Path) -> None:
    """Two pictures with a box and a mask each, where the dataset's config looks for them."""
    folder = root / dataset['data_prefix']['img']
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in 'ab':
        cv2.imwrite(str(folder / f'{name}.jpg'), rng.integers(0, 255, (80, 96, 3), dtype=np.uint8))
    content = dict(
        images=[dict(id=index, file_name=f'{name}.jpg', height=80, width=96)
                for index, name in enumerate('ab')],
        annotations=[dict(id=index, image_id=index, iscrowd=0, area=1200, category_id=3 + index,
                          bbox=[20, 10, 40, 30], segmentation=[[20, 10, 60, 10, 60, 40, 20, 40]])
                     for index in (0, 1)],
        categories=[dict(id=place, name=name)
                    for place, name in enumerate(read_class_names('coco'))])
    path = root / dataset['ann_file']
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def load(path: Path, root: Path) -> Config:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        if 'data_root' in loader.dataset:
            write_coco(loader.dataset, root)
            loader.dataset.data_root = str(root)
            for step in loader.dataset.pipeline:
                if step['type'] == 'Resize':
                    step['scale'] = (96, 80)
        else:
            loader.dataset.ann_file = loader.dataset.ann_file.replace('-200', '-2')
    if 'rcnn' in cfg.model.get('train_cfg', {}):
        cfg.model.train_cfg.rcnn.sampler.num = 16  # regions
        cfg.model.test_cfg.rcnn.max_per_img = cfg.model.test_cfg.rpn.max_per_img = 9
    return without_weights(cfg)


def without_weights(cfg: Config) -> Config:
    for part in (cfg.model.backbone, cfg.model.neck.get('text_encoder', {})):
        part.pop('pretrained', None)
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_builds_and_runs_a_step(path, tmp_path):
    torch.manual_seed(0)
    cfg = load(path, tmp_path)
    train, val = (DATASETS.build(loader.dataset)
                  for loader in (cfg.train_dataloader, cfg.val_dataloader))
    model = MODELS.build(cfg.model)
    model.init_weights()
    has_text = isinstance(model.neck, PixelTextNeck)
    assert has_text == path.stem.startswith('denseclip')
    if has_text:
        assert model.neck.class_names == list(train.metainfo['classes'])
        blocks = model.neck.text_encoder.tower.transformer.resblocks
        del blocks[1:]  # they are alike: one computes
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train().train_step(pseudo_collate([train[0], train[1]]), optim_wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert ('loss_score_map' in losses) == has_text

    result = model.eval().test_step(pseudo_collate([val[0]]))[0]
    assert result.pred_instances.bboxes.shape[1:] == (4, )
    if 'mask_rcnn' in path.stem:
        assert result.pred_instances.masks.shape[1:] == result.ori_shape


@pytest.mark.parametrize(('name', 'millions'), [
    ('retinanet_r50', 60), ('retinanet_r101', 78), ('mask_rcnn_r50', 67), ('mask_rcnn_r101', 84)])
def test_published_parameter_counts(name, millions):
    """The published README: parameters without the text tower."""
    cfg = without_weights(Config.fromfile(ROOT / f'configs/detection/denseclip_{name}_coco.py'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    count = sum(parameter.numel() for key, parameter in model.named_parameters()
                if 'text_encoder' not in key)
    assert count / 1e6 == pytest.approx(millions, abs=0.6)


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'coco' in path.stem],
                         ids=lambda path: path.stem)
def test_published_hyper_parameters(path):
    cfg = Config.fromfile(path)
    optim, (warmup, steps) = cfg.optim_wrapper, cfg.param_scheduler
    assert optim.optimizer.lr == (2e-4 if 'mask_rcnn' in path.stem else 1e-4)
    assert optim.optimizer.weight_decay == 1e-4 and optim.clip_grad.max_norm == 0.1
    assert optim.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    assert (warmup.start_factor, warmup.end) == (1e-3, 500)
    assert (steps.milestones, cfg.train_cfg.max_epochs) == ([8, 11], 12)
    assert cfg.train_dataloader.batch_size * 8 == 16 and cfg.sync_bn == 'torch'
    if path.stem.startswith('denseclip'):
        baseline = Config.fromfile(path.with_name(path.name.replace('denseclip', 'clip'))).model
        assert cfg.model.neck.tau == cfg.model.score_map_loss.tau == 0.07
        assert (cfg.model.backbone.image_size, cfg.model.backbone.positions) == (1344, 'cropped')
        assert cfg.model.neck.neck == baseline.neck
        heads = [key for key in baseline if key.endswith(('_head', '_cfg', 'processor'))]
        assert heads and all(cfg.model[key] == baseline[key] for key in heads)
