"""DistributedDataParallel, which wants a gradient of every parameter: two iterations of each kind.

In this process, alone in its group; ``find_unused_parameters`` is off, as mmengine has it.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import distributed, nn

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py')
                 if not {'_base_', 'detection'} & {*path.parts})
DETECTORS = sorted((ROOT / 'configs/detection').glob('*_scenes.py'))
SIDE = 64


@pytest.fixture(scope='module')
def group() -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


TIMM = {'convnext': 'convnext', 'EVA02': 'eva02', 'PE-': 'pe', 'ViT-B-16-SigLIP': 'siglip'}


def shrink(model: dict, resnet: dict, vit: dict, timm: Callable[[str], dict]) -> None:
    """The towers of a config become tiny ones; which parts there are, and who asks for them, stay.

    Towers of an AlignedBackbone are timm's and mmseg's; the smallest of the kind takes their place.
    """
    if model.data_preprocessor.type == 'SegDataPreProcessor':
        model.data_preprocessor.size = (SIDE, SIDE)
    backbone = model.backbone
    clip = vit if backbone.type == 'CLIPVisionTransformer' else resnet
    if backbone.type == 'CLIPTIMMBackbone':
        clip = timm(next(kind for start, kind in TIMM.items() if backbone.model.startswith(start)))
    channels = [64] * 4 if backbone.type == 'CLIPVisionTransformer' else [32, 64, 128, 256]
    if backbone.type == 'TIMMBackbone':  # small as it is
        backbone.init_cfg = None
        return
    if backbone.type == 'AlignedBackbone':
        backbone.update(head_channels=16, embed_dim=clip['embed_dim'])
        backbone.backbone = dict(type='ResNet', depth=18, base_channels=16)
        channels = [16, 32, 64, 128]
    else:
        backbone.update(model=clip, pretrained=None)
        if backbone.type == 'CLIPVisionTransformer':
            backbone.out_indices = (0, 1, 2, 3)
        if backbone.get('frozen_stages', -1) > 5:
            backbone.frozen_stages = 5
    backbone.image_size = SIDE
    if backbone.type == 'CLIPTIMMBackbone':
        maps = MODELS.build(backbone).eval()(torch.zeros(1, 3, SIDE, SIDE))[:4]
        channels = [each.shape[1] for each in maps]
    neck = model.neck
    if neck.get('prompt', {}).get('type') == 'TextEmbeddings':
        neck.prompt.update(embed_dim=clip['embed_dim'], path=None)
    elif 'text_encoder' in neck:
        neck.text_encoder.update(model=clip, pretrained=None)
    for fpn in (neck, neck.get('neck') or {}):
        if fpn.get('type') in ('FPN', 'ChannelMapper'):
            fpn.in_channels = channels
    if 'decode_head' in model:
        model.test_cfg = dict(mode='whole')


def ddp_trains(model: nn.Module, samples: Sequence[Any]) -> None:
    """Two iterations; the second one dies if a parameter got no gradient in the first."""
    model = revert_sync_batchnorm(model)  # which wants a GPU
    learned = [each for each in model.parameters() if each.requires_grad]
    wrapped = nn.parallel.DistributedDataParallel(model.train(), find_unused_parameters=False)
    optimizer = torch.optim.SGD(learned, lr=1e-4)
    for _ in range(2):
        losses = wrapped(torch.rand(2, 3, SIDE, SIDE), samples, mode='loss')
        loss, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        loss.backward()
        assert all(each.grad is not None for each in learned)
        optimizer.step()


def labelled(num_classes: int) -> list[SegDataSample]:
    """Two images' random labels."""
    return [SegDataSample(
        gt_sem_seg=PixelData(data=torch.randint(0, num_classes, (1, SIDE, SIDE))),
        metainfo=dict(img_shape=(SIDE, SIDE))) for _ in range(2)]


def boxed(count: int) -> list[Any]:
    """Two images' boxes and masks, so many in each."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    corners = torch.tensor([[8., 8, 32, 32], [16, 20, 60, 50]])[:count]
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    masks[:, 20:30, 16:30] = 1
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'),
                           (SIDE, SIDE))
    return [DetDataSample(metainfo=shapes, gt_instances=InstanceData(
        bboxes=corners, labels=torch.arange(count), masks=BitmapMasks(masks, SIDE, SIDE)),
        ignored_instances=InstanceData(bboxes=corners[:0])) for _ in range(2)]


@pytest.mark.parametrize('count', [2, 0])
@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_detectors(path: Path, count: int, group: None, tiny_resnet: dict, timm_clip) -> None:
    """A batch without a single box, too."""
    pytest.importorskip('mmdet')
    cfg = Config.fromfile(path)
    shrink(cfg.model, tiny_resnet, {}, timm_clip)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        ddp_trains(model, boxed(count))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT / 'configs')))
def test_configs(path: Path, group: None, tiny_resnet: dict, tiny_vit: dict, timm_clip) -> None:
    cfg = Config.fromfile(path)
    shrink(cfg.model, tiny_resnet, tiny_vit, timm_clip)
    model = MODELS.build(cfg.model)
    if 'zero_shot' not in str(path):  # which have nothing to learn
        ddp_trains(model, labelled(cfg.model.decode_head.num_classes))


KINDS = {
    'text that does not look at the image': dict(
        backbone=dict(dense_embedding='value'), neck=dict(context_decoder=None)),
    'context decoder': dict(backbone=dict(dense_embedding='value'), neck=dict(
        context_decoder=dict(type='ContextDecoder', width=16, num_layers=1))),
    'meta-net': dict(backbone=dict(dense_embedding='value'),
                     neck=dict(prompt=dict(type='ConditionalContext'))),
    'attended': dict(backbone=dict(dense_embedding='attended')),
    'with_cp': dict(backbone=dict(dense_embedding='value', with_cp=True)),
    'partly frozen': dict(backbone=dict(dense_embedding='value', frozen_stages=2)),
}
SCORE_MAP_ALONE = dict(
    neck=dict(neck=None, score_map_index=None), auxiliary_head=None,
    decode_head=dict(_delete_=True, type='ScoreMapHead', num_classes=3))
NO_SCORE_MAP_OUT = dict(neck=dict(output_score_map=False), auxiliary_head=None)


@pytest.mark.parametrize('outputs', [{}, SCORE_MAP_ALONE, NO_SCORE_MAP_OUT],
                         ids=['decoder', 'score map alone', 'score map inside'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('tower', ['resnet', 'vit'])
def test_who_asks_for_what(tower: str, kind: str, outputs: dict, group: None, tiny_resnet: dict,
                           tiny_vit: dict, model_config: Callable) -> None:
    cfg = Config(dict(model=model_config(tiny_resnet, ['cat', 'dog', 'sky'])))
    if tower == 'vit':
        cfg.merge_from_dict(dict(model=dict(
            backbone=dict(type='CLIPVisionTransformer', model=tiny_vit, out_indices=(0, 1, 2, 3)),
            neck=dict(text_encoder=dict(model=tiny_vit), score_map_index=2,
                      neck=dict(in_channels=[64] * 4)))))
    cfg.merge_from_dict(dict(model=deepcopy(KINDS[kind])))
    cfg.merge_from_dict(dict(model=deepcopy(outputs)))
    ddp_trains(MODELS.build(cfg.model), labelled(3))
