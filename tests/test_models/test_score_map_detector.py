"""Detectors of mmdet behind the factory: what stays theirs, what is added, what is refused."""

import sys
from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')
from mmdet.models.detectors import FCOS, DeformableDETR, RetinaNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

NAMES = ['red star', 'blue ring', 'green cross']
SIDE = 128
CHANNELS = [32, 64, 128, 256]


def retinanet():
    return dict(
        detector='RetinaNet',
        bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8,
                       stacked_convs=1),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
                                     min_pos_iou=0),
                       sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
        test_cfg=dict(nms_pre=100, score_thr=0.0, max_per_img=9,
                      nms=dict(type='nms', iou_threshold=0.5)))


def fcos():
    return dict(
        detector='FCOS',
        bbox_head=dict(type='FCOSHead', num_classes=3, in_channels=8, feat_channels=8,
                       stacked_convs=1, strides=[8, 16, 32, 64, 128],
                       norm_cfg=dict(type='GN', num_groups=2)),
        test_cfg=dict(nms_pre=100, score_thr=0.0, max_per_img=9,
                      nms=dict(type='nms', iou_threshold=0.5)))


def deformable_detr():
    layer = dict(self_attn_cfg=dict(embed_dims=16, num_heads=2), ffn_cfg=dict(
        embed_dims=16, feedforward_channels=16))
    attend = dict(embed_dims=16, num_heads=2, num_levels=4, num_points=2)
    return dict(
        detector='DeformableDETR', num_queries=9, num_feature_levels=4,
        encoder=dict(num_layers=1, layer_cfg={**layer, 'self_attn_cfg': attend}),
        decoder=dict(num_layers=1, return_intermediate=True, post_norm_cfg=None,
                     layer_cfg={**layer, 'cross_attn_cfg': attend}),
        positional_encoding=dict(num_feats=8, normalize=True, offset=-0.5),
        bbox_head=dict(type='DeformableDETRHead', num_classes=3, embed_dims=16,
                       loss_cls=dict(type='FocalLoss')),
        train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=[
            dict(type='FocalLossCost'), dict(type='BBoxL1Cost'), dict(type='IoUCost')])),
        test_cfg=dict(max_per_img=9))


FPN = dict(type='FPN', in_channels=CHANNELS, out_channels=8, start_level=1,
           add_extra_convs='on_input', num_outs=5)
MAPPER = dict(type='ChannelMapper', in_channels=CHANNELS, kernel_size=1, out_channels=16,
              act_cfg=None, num_outs=4)
KINDS = {'retinanet': (retinanet, RetinaNet, FPN), 'fcos': (fcos, FCOS, FPN),
         'deformable detr': (deformable_detr, DeformableDETR, MAPPER)}


def config(kind: str, clip: dict, **neck: object) -> dict:
    parts, _, wrapped = KINDS[kind]
    return dict(
        type='ScoreMapDetector', score_map_loss=dict(type='BoxScoreMapLoss'),
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[120.] * 3, std=[70.] * 3,
                               bgr_to_rgb=True, pad_size_divisor=32),
        backbone=dict(type='CLIPResNet', model=clip, image_size=SIDE, positions='cropped'),
        neck=dict(type='PixelTextNeck', class_names=NAMES, score_map_index=3, tau=0.07,
                  text_encoder=dict(type='CLIPTextTower', model=clip),
                  prompt=dict(type='LearnedContext', num_context=2), neck=wrapped, **neck),
        **parts())


def build(cfg: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(_scope_='mmdet', **deepcopy(cfg)))
    model.init_weights()
    return model


def batch(model: torch.nn.Module) -> dict:
    torch.manual_seed(1)
    samples = []
    for count in (2, 0):
        boxes = torch.tensor([[8., 8, 60, 70], [50, 20, 120, 90]])[:count]
        things = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0])[:count])
        samples.append(DetDataSample(gt_instances=things, metainfo=dict(
            img_shape=(SIDE, 96), ori_shape=(SIDE, 96), scale_factor=(1.0, 1.0),
            batch_input_shape=(SIDE, 96))))
    inputs = [torch.randint(0, 256, (3, SIDE, 96), dtype=torch.uint8) for _ in samples]
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize('kind', KINDS)
def test_a_stock_detector_and_a_loss(kind, tiny_resnet):
    """Its class and losses; without loss and output the same weights predict the same."""
    cfg = config(kind, tiny_resnet)
    model = build(cfg)
    assert isinstance(model, KINDS[kind][1]) and type(model).__name__ == KINDS[kind][1].__name__
    plain_cfg = {**cfg, 'type': cfg['detector'], 'neck': {**cfg['neck'], 'output_score_map': False}}
    del plain_cfg['detector'], plain_cfg['score_map_loss']
    plain = build(plain_cfg)
    plain.load_state_dict(model.state_dict())
    results = []
    for each in (model, plain):
        with torch.no_grad():
            data = each.eval().data_preprocessor(batch(each), False)
            results.append(each.predict(data['inputs'], data['data_samples']))
    for ours, theirs in zip(*results, strict=True):
        assert len(ours.pred_instances) > 0
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(ours.pred_instances[key], theirs.pred_instances[key])
    assert model.score_map.shape == (2, 3, 4, 3)

    losses = {}
    for each in (model, plain):
        torch.manual_seed(2)
        data = each.train().data_preprocessor(batch(each), True)
        losses[each] = each.loss(data['inputs'], data['data_samples'])
    added = losses[model].pop('loss_score_map')
    assert losses[model].keys() == losses[plain].keys()
    assert added > 0
    deepcopy(model)  # as EMA does, after an iteration
    contexts = model.neck.prompt.contexts  # learn by the loss, and by what is concatenated
    for loss in (added, model.parse_losses(losses[model])[0]):
        assert torch.autograd.grad(loss, contexts, retain_graph=True)[0].norm() > 0


def test_the_default_scope_does_not_matter(tiny_resnet):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config('retinanet', tiny_resnet))
    assert type(model.neck.neck).__module__.startswith('mmdet.')


def test_names_change_in_the_score_map_alone(tiny_resnet):
    model = build(config('retinanet', tiny_resnet)).eval()
    model.neck.set_class_names(['snow', 'sand', 'grass', 'water'])
    with torch.no_grad():
        feats = model.extract_feat(torch.rand(1, 3, 64, 64))
    assert len(feats) == 5 and model.score_map.shape == (1, 4, 2, 2)


def test_what_is_refused(tiny_resnet, monkeypatch):
    cfg = config('retinanet', tiny_resnet)
    for changes, words in (
            (dict(detector='RetinaNett'), "mmdet has no detector 'RetinaNett'"),
            (dict(neck=FPN, backbone={**cfg['backbone'], 'with_embeddings': False}),
             'the neck of a ScoreMapDetector is FPN'),
            (dict(neck={**cfg['neck'], 'output_score_map': False}), 'has output_score_map=False')):
        with pytest.raises(ValueError, match=words):
            build({**cfg, **changes})
    with pytest.raises(TypeError, match='bbox_heads'):
        build({**cfg, 'bbox_heads': {}})
    monkeypatch.setitem(sys.modules, 'mmdet.registry', None)
    with pytest.raises(ValueError, match=r'need mmdet, which is not installed: pip install'):
        build(cfg)
