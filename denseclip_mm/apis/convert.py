"""Published DenseCLIP segmentation checkpoints (mmseg 0.x) as checkpoints of this package.

What the file is, and every size in it, is read from its tensors: a model of those sizes is built
and has to take every tensor, no more and no fewer.
"""

import re
from typing import Any

import numpy as np
import torch
from mmseg.registry import MODELS
from mmseg.utils import dataset_aliases, get_classes, get_palette
from torch import Tensor

# Published name -> ours; the first that matches the start of a name is taken.
_NAMES = (
    ('contexts', 'neck.prompt.contexts'),
    ('gamma', 'neck.gamma'),
    ('text_encoder.', 'neck.text_encoder.tower.'),
    ('context_decoder.decoder.', 'neck.context_decoder.layers.'),
    ('context_decoder.', 'neck.context_decoder.'),
    ('neck.', 'neck.neck.'),
    ('decode_head.', 'decode_head.'),
    ('backbone.fpn1.', 'backbone.pyramid.0.'),
    ('backbone.fpn2.', 'backbone.pyramid.1.'),
    ('backbone.fpn3.', 'backbone.pyramid.2.0.'),
    ('backbone.fpn4.', 'backbone.pyramid.3.'),
    ('backbone.', 'backbone.tower.'),
)
_HEAD_WIDTH = 64  # of every attention, in CLIP and in the published context decoder


def convert(published: dict[str, Any], *, meta: dict[str, Any] | None = None,
            clip: dict[str, Tensor] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert a published checkpoint.

    Args:
        published: its state dict.
        meta: what it says about itself (:func:`denseclip_mm.files.read_state_dict` gives both).
        clip: CLIP weights by open_clip's names (:func:`denseclip_mm.clip.read_file`), from which
            text positions that the checkpoint lacks are taken.

    Returns:
        Our checkpoint (``meta`` and ``state_dict``), and a model config in its sizes.

    Raises:
        ValueError: if the checkpoint is something else, has tensors too many or too few, or does
            not fit the CLIP weights.
    """
    if not all(isinstance(value, Tensor) for value in published.values()):
        raise ValueError('the state dict holds other things than tensors')
    model = published_model(published)
    state = {_rename(key): value for key, value in published.items()}
    state['neck.prompt.contexts'] = published['contexts'][0]
    if 'backbone.class_embedding' in published:
        # The published forward adds the class embedding twice; ours adds it once.
        table = state['backbone.tower.positional_embedding'].clone()
        table[0] += published['backbone.class_embedding']
        state['backbone.tower.positional_embedding'] = table
    if clip is not None:
        state['neck.text_encoder.tower.positional_embedding'] = _all_positions(
            published['text_encoder.positional_embedding'], clip)
    try:
        MODELS.build(model).load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError('not every tensor of the checkpoint is accounted for: '
                         + '; '.join(str(error).splitlines()[1:4])) from error

    meta = meta or {}
    own_meta = {}
    classes = meta.get('CLASSES')
    if classes:
        if len(classes) != model['decode_head']['num_classes']:
            raise ValueError(f'the checkpoint names {len(classes)} classes, but its tensors are '
                             f'for {model["decode_head"]["num_classes"]}')
        own_meta['dataset_meta'] = dict(classes=list(classes), palette=_palette(
            list(classes), meta.get('PALETTE')))
    return dict(meta=own_meta, state_dict=state), model


def published_model(state: dict[str, Tensor]) -> dict[str, Any]:
    """The model config, in the sizes of a published state dict.

    Raises:
        ValueError: if it is not a DenseCLIP segmentation state dict.
    """
    def shape(key: str) -> torch.Size:
        if key not in state:
            raise ValueError(f'this is no published DenseCLIP segmentation checkpoint: it has no '
                             f'tensor {key!r} (it starts with {list(state)[:3]})')
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
    num_maps = count(r'neck\.lateral_convs\.(\d+)\.')
    in_channels = [shape(f'neck.lateral_convs.{index}.conv.weight')[1] for index in range(num_maps)]
    num_classes = shape('decode_head.conv_seg.weight')[0]
    num_levels = count(r'decode_head\.scale_heads\.(\d+)\.')

    if 'backbone.class_embedding' in state:
        index, kind = 2, 'CLIPVisionTransformer'
        layers = count(r'backbone\.transformer\.resblocks\.(\d+)\.')
        # After which blocks the maps leave is not in the file, and no tensor depends on it.
        maps = dict(out_indices=tuple(range(layers - 4, layers)))
        patch_size = shape('backbone.conv1.weight')[-1]
        stride = patch_size
        vision_cfg = dict(layers=layers, width=shape('backbone.conv1.weight')[0],
                          patch_size=patch_size)
        cells = shape('backbone.positional_embedding')[0] - 1
    else:
        index, kind, maps = 3, 'CLIPResNet', {}
        stride = 32
        vision_cfg = dict(
            layers=[count(rf'backbone\.layer{stage}\.(\d+)\.') for stage in (1, 2, 3, 4)],
            width=shape('backbone.layer1.0.conv1.weight')[0])
        cells = shape('backbone.attnpool.positional_embedding')[0] - 1
    in_channels[index] -= num_classes
    clip = dict(embed_dim=shape('text_encoder.text_projection')[1], quick_gelu=True,
                vision_cfg=vision_cfg, text_cfg=text_cfg)
    decoder_width = shape('context_decoder.memory_proj.1.weight')[0]
    return dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type=kind, model=clip, image_size=stride * round(cells**0.5),
                      **maps),
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
            neck=dict(type='FPN', in_channels=in_channels,
                      out_channels=shape('neck.fpn_convs.0.conv.weight')[0],
                      num_outs=count(r'neck\.fpn_convs\.(\d+)\.'))),
        decode_head=dict(
            type='FPNHead', in_index=list(range(num_levels)), num_classes=num_classes,
            in_channels=[shape('decode_head.scale_heads.0.0.conv.weight')[1]] * num_levels,
            channels=shape('decode_head.conv_seg.weight')[1], norm_cfg=dict(type='BN'),
            feature_strides=[4 * 2**level for level in range(num_levels)]),
        auxiliary_head=dict(type='ScoreMapHead', in_index=num_maps, num_classes=num_classes))


def _rename(key: str) -> str:
    for published, ours in _NAMES:
        if key == published or (published.endswith('.') and key.startswith(published)):
            return ours + key.removeprefix(published)
    raise ValueError(f'the checkpoint has a tensor {key!r} that published DenseCLIP segmentation '
                     'models do not have')


def _all_positions(published: Tensor, clip: dict[str, Tensor]) -> Tensor:
    rows = clip.get('text.positional_embedding')
    if rows is None or rows.shape[1] != published.shape[1] or len(rows) < len(published):
        got = None if rows is None else tuple(rows.shape)
        raise ValueError(f'the CLIP weights have text positions {got}, the checkpoint '
                         f'{tuple(published.shape)}; give the weights of the CLIP it started from')
    return torch.cat([published, rows[len(published):].to(published.dtype)])


def _palette(classes: list[str], palette: list | None) -> list[list[int]]:
    """The published palette, that of the mmseg dataset with these classes, or a random one."""
    if palette is not None:
        return [list(map(int, colour)) for colour in palette]
    names = [name.strip() for name in classes]
    for alias in dataset_aliases:
        if [name.strip() for name in get_classes(alias)] == names:
            return get_palette(alias)
    return np.random.RandomState(42).randint(0, 255, (len(classes), 3)).tolist()
