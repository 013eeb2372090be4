"""What model a published DenseCLIP checkpoint is of: every size is read from its tensors."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_HEAD_WIDTH = 64  # of every attention, in CLIP and in the published context decoder


def published_model(state: dict[str, Tensor]) -> dict[str, Any]:
    """The model config, in the sizes of a published state dict.

    Args:
        state: of a segmentor (``FPNHead``) or a detector (RetinaNet, Faster or Mask R-CNN).

    Raises:
        ValueError: if it is not a DenseCLIP state dict.
    """
    def shape(key: str) -> torch.Size:
        if key not in state:
            raise ValueError(f'this is no published DenseCLIP checkpoint: it has no tensor {key!r} '
                             f'(it starts with {list(state)[:3]})')
        return state[key].shape

    def count(pattern: str) -> int:
        return len({match[1] for match in map(re.compile(pattern).match, state) if match})

    if len(shape('contexts')) != 3 or shape('contexts')[0] != 1:
        raise ValueError(f'contexts are {tuple(shape("contexts"))}; published unified ones are '
                         '(1, contexts, width)')
    text_width = shape('text_encoder.token_embedding.weight')[1]
    text_cfg = dict(
        context_length=max(77, shape('text_encoder.positional_embedding')[0]),
        vocab_size=shape('text_encoder.token_embedding.weight')[0], width=text_width,
        heads=max(1, text_width // _HEAD_WIDTH),
        layers=count(r'text_encoder\.transformer\.resblocks\.(\d+)\.'))
    if 'backbone.class_embedding' in state:
        index, kind = 2, 'CLIPVisionTransformer'
        layers = count(r'backbone\.transformer\.resblocks\.(\d+)\.')
        # After which blocks the maps leave is not in the file, and no tensor depends on it.
        own = dict(out_indices=tuple(range(layers - 4, layers)))
        patch_size = shape('backbone.conv1.weight')[-1]
        stride = patch_size
        vision_cfg = dict(layers=layers, width=shape('backbone.conv1.weight')[0],
                          patch_size=patch_size)
        cells = shape('backbone.positional_embedding')[0] - 1
        channels = [vision_cfg['width']] * 4
    else:
        index, kind, own = 3, 'CLIPResNet', {}
        stride = 32
        vision_cfg = dict(
            layers=[count(rf'backbone\.layer{stage}\.(\d+)\.') for stage in (1, 2, 3, 4)],
            width=shape('backbone.layer1.0.conv1.weight')[0])
        cells = shape('backbone.attnpool.positional_embedding')[0] - 1
        channels = [4 * vision_cfg['width'] * 2**stage for stage in range(4)]

    if 'decode_head.conv_seg.weight' in state:
        model, num_classes = _segmentor(shape, count)
    else:
        model, num_classes = _detector(shape, count)
        own['positions'] = 'cropped'
    clip = dict(embed_dim=shape('text_encoder.text_projection')[1], quick_gelu=True,
                vision_cfg=vision_cfg, text_cfg=text_cfg)
    decoder_width = shape('context_decoder.memory_proj.1.weight')[0]
    return dict(
        model,
        backbone=dict(type=kind, model=clip, image_size=stride * round(cells**0.5), **own),
        neck=dict(
            type='PixelTextNeck',
            text_encoder=dict(type='CLIPTextTower', model=clip),
            prompt=dict(type='LearnedContext', num_context=shape('contexts')[1]),
            class_names=[f'class {number}' for number in range(num_classes)],
            context_decoder=dict(
                type='ContextDecoder', width=decoder_width,
                num_heads=max(1, decoder_width // _HEAD_WIDTH),
                num_layers=count(r'context_decoder\.decoder\.(\d+)\.')),
            score_map_index=index,
            neck=dict(model['neck'], type='FPN', in_channels=channels,
                      out_channels=shape('neck.fpn_convs.0.conv.weight')[0])))


def _segmentor(shape: Callable[[str], torch.Size],
               count: Callable[[str], int]) -> tuple[dict[str, Any], int]:
    num_classes = shape('decode_head.conv_seg.weight')[0]
    num_levels = count(r'decode_head\.scale_heads\.(\d+)\.')
    return dict(
        _scope_='mmseg', type='EncoderDecoder',
        neck=dict(num_outs=count(r'neck\.fpn_convs\.(\d+)\.')),
        decode_head=dict(
            type='FPNHead', in_index=list(range(num_levels)), num_classes=num_classes,
            in_channels=[shape('decode_head.scale_heads.0.0.conv.weight')[1]] * num_levels,
            channels=shape('decode_head.conv_seg.weight')[1], norm_cfg=dict(type='BN'),
            feature_strides=[4 * 2**level for level in range(num_levels)]),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=num_classes)), num_classes


def _detector(shape: Callable[[str], torch.Size],
              count: Callable[[str], int]) -> tuple[dict[str, Any], int]:
    model = dict(_scope_='mmdet', type='ScoreMapDetector',
                 score_map_loss=dict(type='BoxScoreMapLoss'))
    width = shape('neck.fpn_convs.0.conv.weight')[0]
    if count(r'(bbox_head\.retina_cls)\.'):
        anchors = shape('bbox_head.retina_reg.weight')[0] // 4
        num_classes = shape('bbox_head.retina_cls.weight')[0] // anchors
        head = dict(type='RetinaHead', num_classes=num_classes, in_channels=width,
                    feat_channels=shape('bbox_head.cls_convs.0.conv.weight')[0],
                    stacked_convs=count(r'bbox_head\.cls_convs\.(\d+)\.'))
        neck = dict(start_level=1, add_extra_convs='on_input', num_outs=5)
        return dict(model, detector='RetinaNet', neck=neck, bbox_head=head), num_classes

    num_classes = shape('roi_head.bbox_head.fc_cls.weight')[0] - 1
    extractor = dict(type='SingleRoIExtractor', out_channels=width, featmap_strides=[4, 8, 16, 32])
    roi_head = dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(extractor, roi_layer=dict(type='RoIAlign', output_size=7)),
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=width, num_classes=num_classes,
                       fc_out_channels=shape('roi_head.bbox_head.fc_cls.weight')[1]))
    if masks := count(r'roi_head\.mask_head\.convs\.(\d+)\.'):
        roi_head.update(
            mask_roi_extractor=dict(extractor, roi_layer=dict(type='RoIAlign', output_size=14)),
            mask_head=dict(type='FCNMaskHead', num_convs=masks, in_channels=width,
                           conv_out_channels=width, num_classes=num_classes))
    return dict(
        model, detector='MaskRCNN' if masks else 'FasterRCNN', neck=dict(num_outs=5),
        rpn_head=dict(type='RPNHead', in_channels=width, feat_channels=width,
                      anchor_generator=dict(type='AnchorGenerator', scales=[8],
                                            ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])),
        roi_head=roi_head, train_cfg=None, test_cfg=dict(rpn={}, rcnn={})), num_classes
