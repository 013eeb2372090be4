"""Published detectors, from file to number: the values of ``shared/reference/detection``.

They were computed by the published code (its README says how), in batches of two.
"""

import json
import runpy
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.apis.checkpoints.convert import convert
from denseclip_mm.models.box_score_map_loss import rasterise

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

pytest.importorskip('mmdet')
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi

ROOT = Path(__file__).resolve().parents[3]
CASES = {'retinanet': 600, 'mask_rcnn': 606}  # tensors


def relative_error(ours: Tensor | float, theirs: np.ndarray) -> float:
    ours = torch.as_tensor(ours).detach().double()
    assert ours.shape == theirs.shape
    norm = np.linalg.norm(theirs)
    return float((ours - torch.from_numpy(theirs).double()).norm() / (norm or 1))


def from_config(name: str) -> nn.Module:
    cfg = Config.fromfile(ROOT / f'configs/detection/denseclip_{name}_r50_coco.py').model
    cfg.backbone.pretrained = cfg.neck.text_encoder.pretrained = None
    return MODELS.build(dict(_scope_='mmdet', **cfg)).eval()


def maps_of_heads(model: nn.Module, feats: tuple[Tensor, ...],
                  boxes: list[Tensor]) -> dict[str, Tensor]:
    """What the heads say before any box is decoded; regions are the ground truth boxes."""
    if hasattr(model, 'bbox_head'):
        kinds, outputs = ('cls', 'bbox'), model.bbox_head(feats)
        return {f'{kind}{level}': each for kind, levels in zip(kinds, outputs, strict=True)
                for level, each in enumerate(levels)}
    kinds, outputs = ('rpn_cls', 'rpn_bbox'), model.rpn_head(feats)
    maps = {f'{kind}{level}': each for kind, levels in zip(kinds, outputs, strict=True)
            for level, each in enumerate(levels)}
    head, rois = model.roi_head, bbox2roi(boxes)
    cls, bbox = head.bbox_head(head.bbox_roi_extractor(feats[:4], rois))
    mask = head.mask_head(head.mask_roi_extractor(feats[:4], rois))
    return {**maps, 'roi_cls': cls, 'roi_bbox': bbox, 'roi_mask': mask}


def taken(name: str, value: Tensor) -> Tensor:
    """The part of a tensor that the file holds."""
    if name.startswith(('fpn', 'cls')):
        return value[:, ::16, ::4, ::4]
    if name.startswith(('rpn_', 'bbox')):
        return value[:, ::4, ::4, ::4] if name.startswith('bbox') else value[:, :, ::4, ::4]
    return {'roi_bbox': lambda: value[:, ::4], 'roi_mask': lambda: value[:, ::8, ::4, ::4]}.get(
        name, lambda: value)()


def gradients(model: nn.Module, loss: Tensor, prefix: str) -> dict[str, Tensor]:
    neck = model.neck
    table = model.backbone.tower.attnpool.positional_embedding
    lateral = neck.neck.lateral_convs[-1].conv.weight
    weights = {'contexts': neck.prompt.contexts, 'gamma': neck.gamma, 'table': table,
               'backbone.conv1.weight': model.backbone.tower.conv1.weight,
               'out_proj': neck.context_decoder.out_proj[1].weight, 'lateral': lateral}
    found = dict(zip(weights, torch.autograd.grad(
        loss, weights.values(), retain_graph=True, allow_unused=True), strict=True))
    named = {'contexts': found['contexts'][None], 'gamma': found['gamma'],
             'backbone.conv1.weight': found['backbone.conv1.weight'],
             'context_decoder.out_proj.1.weight_norm': found['out_proj'].norm(),
             'position_rows_used': (found['table'] != 0).any(1).sum()}
    if prefix == 'grad_heads':
        named['score_map_lateral'] = found['lateral'][:, 2048:, 0, 0]
    return {f'{prefix}/{name}': value for name, value in named.items()}


def everything(model: nn.Module, x: Tensor, things: list[InstanceData]) -> dict[str, Tensor]:
    """What the reference files hold, by their names."""
    neck, seen = model.neck, {}
    for name in ('backbone', 'neck'):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, outputs, name=name: seen.update({name: outputs}))
    size = tuple(x.shape[2:])
    feats = model.extract_feat(x)
    aux = model.score_map_loss(model.score_map, things, size)
    *maps, (image, dense) = seen['backbone']
    heads = maps_of_heads(model, feats, [each.bboxes for each in things])
    loss_heads = sum((each**2).mean() for each in heads.values())
    scores = seen['neck'][-1] / neck.tau
    with torch.no_grad():
        tokens = torch.cat([image[:, :, None], dense.flatten(2)], dim=2).mT
        text = neck.text_embeddings(neck.vocabulary, tokens)
        refined = text + neck.gamma * neck.context_decoder(text.expand(2, -1, -1), tokens)
    cells = size[0] // 4, size[1] // 4
    target = torch.stack([rasterise(each.bboxes / 4, each.labels, 80, cells) for each in things])
    return {
        **{f'feat{level}_mean': fmap.mean((2, 3)) for level, fmap in enumerate(maps)},
        'feat3': maps[3][:, ::32], 'global_embedding': image, 'dense_embedding': dense[:, ::8],
        'text_embedding': text[0], 'refined_text_embedding': refined[:, :, ::4],
        'score_map': scores,
        **{name: taken(name, each) for name, each in heads.items()},
        **{f'fpn{level}': taken('fpn', each) for level, each in enumerate(feats)},
        **{f'fpn{level}_std': each.std() for level, each in enumerate(feats)},
        'aux_logits': nn.functional.interpolate(scores, cells, mode='bilinear')[
            :, ::8, ::8, ::8],
        'target_sum': target.sum((2, 3)), 'mask_sum': target.any(1).sum((1, 2)),
        'loss/aux': aux, 'loss/heads': loss_heads,
        **gradients(model, aux, 'grad_aux'), **gradients(model, loss_heads, 'grad_heads')}


@pytest.mark.one_stack
@pytest.mark.parametrize('name', CASES)
def test_equals_the_published_code(name: str, shared: Path, tmp_path: Path,
                                   succeed: Callable[..., str]) -> None:
    """Features, text, score map, pyramid, heads, loss and gradients; the config's model."""
    reference = shared / 'reference/detection'
    make = runpy.run_path(str(reference / 'make_checkpoint.py'))
    manifest = json.loads((reference / f'{name}_rn50_coco.json').read_text())
    state = make['make_state_dict'](manifest)
    assert len(state) == CASES[name]
    converted, config = convert(state, meta=dict(CLASSES=tuple(manifest['classes'])))
    assert config['detector'] == {'retinanet': 'RetinaNet', 'mask_rcnn': 'MaskRCNN'}[name]
    assert converted['meta']['dataset_meta']['classes'] == manifest['classes']
    model = from_config(name)
    model.load_state_dict(converted['state_dict'])
    assert model.neck.class_names == manifest['classes']

    model.double()  # in float32 gradients differ by 3e-4 from one kind of CPU to another
    x = torch.from_numpy(make['image'](2, 512, 704)).double()
    with np.load(reference / f'{name}_rn50_coco_512x704.npz') as theirs:
        things = []
        for index, (boxes, labels) in enumerate(make['boxes'](2, 512, 704)):
            np.testing.assert_array_equal(boxes, theirs[f'boxes{index}'])
            np.testing.assert_array_equal(labels, theirs[f'labels{index}'])
            things.append(InstanceData(bboxes=torch.from_numpy(boxes).double(),
                                       labels=torch.from_numpy(labels)))
        ours = everything(model, x, things)
        names = [each for each in theirs.files if not each.startswith(('boxes', 'labels'))]
        assert set(names) <= ours.keys()
        errors = {each: relative_error(ours[each], theirs[each]) for each in names}
    too_large = {each: error for each, error in errors.items()
                 if error > (1e-4 if each.startswith('grad') else 1e-5)}
    assert too_large == {}
