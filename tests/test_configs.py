"""Every config runs a training step and a test step on tiny files, its towers of few blocks.

Those of detectors: ``test_detection_configs.py``.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import MethodType, SimpleNamespace

from denseclip_mm.apis.checks.towers import check_pixels
from denseclip_mm.backbones.tower import CLIPTower
from denseclip_mm.clip import clip_config
from denseclip_mm.demo.render import BASE_CLASSES
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from timm.models import _registry

ROOT = Path(__file__).resolve().parents[1]

LEAVES = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
CONFIGS = [path for path in LEAVES if 'detection' not in path.parts]
SUFFIXES = {  # of images and labels, as the datasets' own conversion scripts name them
    'CityscapesDataset': ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
    'COCOStuffDataset': ('.jpg', '_labelTrainIds.png'),
}
LAST_LAYERS = ('decode_head.conv_seg.weight', 'decode_head.exit.weight')
SIDE = 64


def write_files(dataset: dict, root: Path) -> None:
    """Two images with random labels, where the dataset's config looks for them."""
    rng = np.random.default_rng(0)
    suffixes = SUFFIXES.get(dataset['type'], ('.jpg', '.png'))
    for folder, suffix in zip(('img_path', 'seg_map_path'), suffixes, strict=True):
        path = root / dataset['data_prefix'][folder]
        path.mkdir(parents=True, exist_ok=True)
        shape = (80, 96, 3) if folder == 'img_path' else (80, 96)
        for name in 'ab':
            cv2.imwrite(str(path / f'{name}{suffix}'), rng.integers(0, 11, shape, dtype=np.uint8))
    if 'ann_file' in dataset:
        (root / dataset['ann_file']).parent.mkdir(parents=True, exist_ok=True)
        (root / dataset['ann_file']).write_text('a\nb\n')


def shrink(pipeline: list[dict]) -> None:
    """Small crops; the model keeps its size."""
    for step in pipeline:
        if step['type'] == 'RandomCrop':
            step['crop_size'] = (SIDE, SIDE)
        elif step['type'] in ('Resize', 'RandomResize'):
            step['scale'] = (96, 80)


def load(path: Path, data_root: Path) -> Config:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        if 'data_root' in loader.dataset:
            write_files(loader.dataset, data_root)
            loader.dataset.data_root = str(data_root)
            shrink(loader.dataset.pipeline)
    cfg.model.data_preprocessor.size = (SIDE, SIDE)
    return cfg


def without_weights(model: dict) -> dict:
    """The model config without anything to fetch."""
    for part in (model.backbone, model.backbone.get('backbone'), model.neck.get('text_encoder'),
                 model.neck.get('prompt')):
        for key in ('pretrained', 'init_cfg', 'path') if part else ():
            if part.get(key):  # False stays: timm fetches by default
                del part[key]
    return model


@pytest.fixture
def fewer_blocks(monkeypatch, request) -> Callable[[dict], None]:
    """Makes towers of the same channels with few blocks, a narrow text tower, a local tokenizer."""
    def fewer_blocks(model: dict) -> None:
        config = deepcopy(clip_config(model.backbone.model))
        vision, text = config['vision_cfg'], config['text_cfg']
        text.update(layers=1, width=32, heads=2)
        if 'hf_tokenizer_name' in text:
            text['vocab_size'] = 256
            model.neck.text_encoder.tokenizer = request.getfixturevalue('tokenizer_folder')(
                'gemma', [*read_class_names('ade20k'), 'a photo of a .'])
        if name := vision.get('timm_model_name'):
            fewer = dict(depths=(1, 1, 1, 1)) if 'convnext' in name else dict(depth=4)
            monkeypatch.setitem(_registry._model_entrypoints, name, partial(
                _registry.model_entrypoint(name), **fewer))
        elif isinstance(vision['layers'], int):
            vision['layers'] = 4
        if 'frozen_stages' in model.backbone:
            model.backbone.frozen_stages = min(model.backbone.frozen_stages, 5)
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, model.backbone.model, config)
    return fewer_blocks


each_config = pytest.mark.parametrize(
    'path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT / 'configs')))


def depth(path: Path) -> int:
    """Files from a config down the longest way of its bases."""
    return 1 + max((depth(path.parent / base) for base in Config._get_base_files(str(path))),
                   default=0)


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_a_config_inherits_base_files_alone(path):
    """No other model's config; four files deep. Its comment has the command that runs it."""
    bases = Config._get_base_files(str(path))
    assert bases and all('_base_' in Path(base).parts for base in bases)
    assert depth(path) <= 4
    comment = path.read_text().split('\n_base_ = ')[0].splitlines()
    assert 2 <= len(comment) <= 4 and all(line.startswith('# ') for line in comment)
    assert comment[-1].startswith(('# python tools/', '# tools/dist_train.sh '))
    assert str(path.relative_to(ROOT)) in comment[-1].split()


@pytest.mark.parametrize('name', ['r50', 'vitb16', 'scenes'])
def test_the_language_brings_the_image_tower_of_its_text(name):
    cfg = Config.fromfile(ROOT / f'configs/_base_/models/model_denseclip_fpn_{name}.py')
    theirs, ours = cfg.language.model.backbone, cfg.model.backbone
    of_the_baseline = {'_delete_': True, 'with_embeddings': True, 'image_size': ours.image_size}
    assert {**theirs, **of_the_baseline} == {**ours, **of_the_baseline}
    assert (theirs.model, theirs.pretrained) == (
        cfg.language.neck.text_encoder.model, cfg.language.neck.text_encoder.pretrained)


@each_config
def test_clip_is_used_as_it_was_trained(path):
    """At full size: pixels and text tower are those of the weights; zero-shot, all is frozen."""
    model = Config.fromfile(path).model
    with torch.device('meta'):
        backbone = MODELS.build(model.backbone)
    if not isinstance(backbone, CLIPTower):
        return
    check_pixels(SimpleNamespace(backbone=backbone,
                                 data_preprocessor=MODELS.build(model.data_preprocessor)))
    if text := model.neck.get('text_encoder'):
        assert (text.model, text.get('pretrained')) == (backbone.model, backbone.pretrained)
    if 'zero_shot' in str(path):
        assert not any(parameter.requires_grad for parameter in backbone.tower.parameters())


@each_config
def test_runs_a_step(path, tmp_path, fewer_blocks):
    torch.manual_seed(0)
    cfg = load(path, tmp_path)
    if 'model' in cfg.model.backbone:
        fewer_blocks(cfg.model)
    train, val = (DATASETS.build(loader.dataset)
                  for loader in (cfg.train_dataloader, cfg.val_dataloader))
    model = MODELS.build(without_weights(cfg.model))
    model.init_weights()
    has_text = isinstance(model.neck, PixelTextNeck)
    by_score_map = isinstance(model.decode_head, ScoreMapHead)
    if has_text:
        assert len(model.neck.class_names) == len(train.metainfo['classes'])
        assert model.neck.class_names == [name.strip() for name in train.metainfo['classes']]
    assert model.decode_head.num_classes == len(train.metainfo['classes'])

    learned = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and not name.startswith('backbone.pyramid.')]
    if by_score_map:  # prompt tuning leaves both towers as they are; templates learn nothing
        assert all(name.startswith('neck.prompt.') for name in learned)
    else:
        assert any(name in learned for name in LAST_LAYERS)
        assert 'backbone.' in ' '.join(learned)
    assert bool(learned) == ('zero_shot' not in str(path))
    if learned:
        before = {name: model.get_parameter(name).detach().clone() for name in learned}
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        losses = model.train().train_step(pseudo_collate([train[0], train[1]]), optim_wrapper)
        assert all(torch.isfinite(value).all() for value in losses.values())
        assert ('aux.loss_ce' in losses) == (has_text and not by_score_map)
        for name in (*LAST_LAYERS, 'neck.prompt.contexts', 'neck.prompt.queries'):
            if name in before:
                assert not torch.equal(before[name], model.get_parameter(name)), name

    result = model.eval().test_step(pseudo_collate([val[0]]))[0]
    assert result.pred_sem_seg.shape == result.gt_sem_seg.shape
    assert result.pred_sem_seg.data.max() < model.decode_head.num_classes


@pytest.mark.parametrize('name', [f'denseclip_fpn_{tower}' for tower in ('r50', 'r101', 'vitb16')])
def test_published_hyper_parameters(name):
    cfg = Config.fromfile(ROOT / f'configs/denseclip/{name}.py')
    side, stride = (640, 426) if 'vit' in name else (512, 341)
    assert cfg.model.backbone.image_size == side == cfg.model.data_preprocessor.size[0]
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(side, side), stride=(stride, stride))
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999),
                                               weight_decay=1e-4)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult == 0.1
    warmup, poly = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (poly.power, poly.eta_min, poly.end) == (0.9, 1e-6, 80000)
    assert cfg.train_dataloader.batch_size * 8 == 32
    np.testing.assert_allclose(cfg.model.data_preprocessor.mean,
                               255 * np.array([0.48145466, 0.4578275, 0.40821073]))
    np.testing.assert_allclose(cfg.model.data_preprocessor.std,
                               255 * np.array([0.26862954, 0.26130258, 0.27577711]))
    assert cfg.model.auxiliary_head.tau == 0.07
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4


@pytest.mark.parametrize(('name', 'millions'), [
    ('denseclip_fpn_r50', 50.3), ('denseclip_fpn_r101', 67.8), ('denseclip_fpn_vitb16', 105.3)])
def test_published_parameter_counts(name, millions):
    """DenseCLIP, Table 1: parameters without the text tower."""
    cfg = Config.fromfile(ROOT / f'configs/denseclip/{name}.py')
    with torch.device('meta'):
        model = MODELS.build(without_weights(cfg.model))
    count = sum(parameter.numel() for key, parameter in model.named_parameters()
                if 'text_encoder' not in key)
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


def test_decoders_compute_their_loss_in_pieces():
    """The numbers are mmseg's, and the checkpoints of ``PiecewiseFPNHead`` are its FPNHead's."""
    heads = [Config.fromfile(path).model.decode_head for path in CONFIGS]
    assert {head.type for head in heads} == {
        'PiecewiseFPNHead', 'ScoreMapHead', 'CostAggregationHead'}
    for cfg in {str(head): head for head in heads if head.type != 'ScoreMapHead'}.values():
        cfg.dropout_ratio = 0
        ours = MODELS.build(cfg)
        features = [torch.randn(2, channels, 32 // stride, 32 // stride)
                    for channels, stride in zip(cfg.in_channels, cfg.feature_strides, strict=True)]
        if cfg.type == 'PiecewiseFPNHead':
            theirs = MODELS.build({**cfg, 'type': 'FPNHead'})
            theirs.load_state_dict(ours.state_dict())
        else:
            size = 32 // cfg.score_map_stride
            features.append(2 * torch.rand(2, cfg.num_classes, size, size) - 1)
            theirs = deepcopy(ours)
            theirs.loss_by_feat = MethodType(BaseDecodeHead.loss_by_feat, theirs)
        labels = torch.randint(0, cfg.num_classes, (2, 1, 32, 32))
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each)) for each in labels]
        losses = []
        for head in (ours, theirs):
            torch.manual_seed(0)  # of the classes that sit out
            losses.append(head.loss(features, samples, {})['loss_ce'])
        torch.testing.assert_close(*losses, rtol=1e-5, atol=0)


def test_ade20k_differs_in_its_sizes_only():
    def at(size):
        cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/ade20k_{size}x{size}.py').to_dict()
        train, test, tta = (cfg.pop(f'{kind}_pipeline') for kind in ('train', 'test', 'tta'))
        assert cfg['train_dataloader']['dataset'].pop('pipeline') == train
        for loader in (cfg['val_dataloader'], cfg['test_dataloader']):
            assert loader['dataset'].pop('pipeline') == test
        resizes = tta[1]['transforms'][0]
        assert [step.pop('scale') for step in (train[2], test[1], *resizes)] == [
            (4 * size, size), (4 * size, size),
            *((4 * size * quarters // 4, size * quarters // 4) for quarters in range(2, 8))]
        assert train[3].pop('crop_size') == cfg.pop('crop_size') == (size, size)
        return cfg, train, test, tta

    assert at(504) == at(512) == at(640)


@pytest.mark.parametrize(('name', 'baseline'), [
    *((path.stem, 'clip_fpn_scenes') for path in sorted(
        (ROOT / 'configs/demo').glob('*_scenes.py'))),
    *((f'camvid_lite0_{name}', 'camvid_lite0_fpn') for name in ('denseclip', 'aggregate'))])
def test_demo_configs_differ_in_what_they_say_only(name, baseline):
    """Same data, same schedule: rows of one table."""
    cfg, first = (Config.fromfile(ROOT / f'configs/demo/{each}.py') for each in (name, baseline))
    for each in (cfg, first):  # the rate of what only one of them has
        each.optim_wrapper.paramwise_cfg.custom_keys.pop('backbone.pool', None)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper',
                'param_scheduler', 'train_cfg', 'randomness'):
        assert cfg.get(key) == first.get(key), key
    if baseline == 'clip_fpn_scenes':
        assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == BASE_CLASSES
    ours, theirs = (dict(each.model.backbone.get('backbone', each.model.backbone))
                    for each in (cfg, first))
    for backbone in (ours, theirs):
        for key in ('frozen_stages', 'with_embeddings', 'dense_embedding'):
            backbone.pop(key, None)
    assert ours == theirs
