"""Published DenseCLIP checkpoints (mmseg 0.x, mmdet 2.x) as checkpoints of this package.

What the file is, and every size in it, is read from its tensors: a model of those sizes is built
and has to take every tensor, no more and no fewer.
"""

from typing import Any

from denseclip_mm.apis.checkpoints.published import published_model
from denseclip_mm.tensors import check_finite, check_kinds

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
    *((head, head) for head in ('decode_head.', 'bbox_head.', 'rpn_head.', 'roi_head.')),
    ('backbone.fpn1.', 'backbone.pyramid.0.'),
    ('backbone.fpn2.', 'backbone.pyramid.1.'),
    ('backbone.fpn3.', 'backbone.pyramid.2.0.'),
    ('backbone.fpn4.', 'backbone.pyramid.3.'),
    ('backbone.', 'backbone.tower.'),
)


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
        ValueError: if the checkpoint is something else, has tensors too many or too few, or numbers
            of another kind than weights have, or does not fit the CLIP weights.
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
    built = MODELS.build(model)
    check_finite(state, 'the checkpoint')
    check_kinds(state, built.state_dict(), 'the checkpoint')
    try:
        built.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError('not every tensor of the checkpoint is accounted for: '
                         + '; '.join(str(error).splitlines()[1:4])) from error

    meta = meta or {}
    own_meta = {}
    classes = meta.get('CLASSES')
    if classes:
        num_classes = len(model['neck']['class_names'])
        if len(classes) != num_classes:
            raise ValueError(f'the checkpoint names {len(classes)} classes, but its tensors are '
                             f'for {num_classes}')
        own_meta['dataset_meta'] = dict(classes=list(classes), palette=_palette(
            list(classes), meta.get('PALETTE')))
    return dict(meta=own_meta, state_dict=state), model


def _rename(key: str) -> str:
    for published, ours in _NAMES:
        if key == published or (published.endswith('.') and key.startswith(published)):
            return ours + key.removeprefix(published)
    raise ValueError(f'the checkpoint has a tensor {key!r} that published DenseCLIP models do not '
                     'have')


def _all_positions(published: Tensor, clip: dict[str, Tensor]) -> Tensor:
    rows = clip.get('text.positional_embedding')
    if rows is None or rows.shape[1] != published.shape[1] or len(rows) < len(published):
        got = None if rows is None else tuple(rows.shape)
        raise ValueError(f'the CLIP weights have text positions {got}, the checkpoint '
                         f'{tuple(published.shape)}; give the weights of the CLIP it started from')
    check_kinds(dict(positions=rows), dict(positions=published), 'the file of CLIP weights')
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
