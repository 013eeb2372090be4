"""Whether neck and heads of a segmentor can take the maps that they are given."""

from collections.abc import Iterator, Sequence

from denseclip_mm.apis.feature_cache import FeatureCache
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.views import view_of

import torch
from mmseg.models import BaseSegmentor
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

SIZE = (512, 512)  # of images whose data preprocessor does not tell


@torch.no_grad()
def check_heads(model: nn.Module) -> None:
    """Refuse heads that cannot take the maps of the neck, by a look at one black image.

    Args:
        model: a segmentor; other models are passed over, and heads that are not mmseg's.

    Raises:
        ValueError: if the neck or a head takes a map that is not there or has other channels,
            joins maps of sizes that it cannot, or meets CLIP's embeddings, since no neck has taken
            them; says what to write.
    """
    if not isinstance(model, BaseSegmentor):
        return
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        size = getattr(model.data_preprocessor, 'size', None) or SIZE
        image = next(model.parameters()).new_zeros(1, 3, *size)
        neck = getattr(model, 'neck', None)
        maps_of = FeatureCache(lambda images: _through_neck(model.backbone(images), neck))
        maps = maps_of(image)
        channels = [each.shape[1] for each in maps]
        score_map = isinstance(neck, PixelTextNeck) and neck.output_score_map
        for name, head in heads_of(model):
            if isinstance(head, BaseDecodeHead) and not isinstance(head, ScoreMapHead):
                _check_channels(name, head, channels, score_map)
        try:
            for name, head in heads_of(model):
                if name.startswith('auxiliary_head'):
                    head(maps)
            name = 'decode_head'
            maps_of.rewind()
            view_of(model, backbone=maps_of, neck=None).encode_decode(
                image, [dict(img_shape=(1, 1), ori_shape=(1, 1))])
        except (RuntimeError, IndexError) as error:
            raise ValueError(f'{name} cannot take {_cure(maps, score_map, error)}') from error
    finally:
        for module, was in training.items():
            module.training = was


def _through_neck(maps: Sequence[Tensor | tuple[Tensor, Tensor]],
                  neck: nn.Module | None) -> Sequence[Tensor]:
    if isinstance(maps[-1], tuple) and not isinstance(neck, PixelTextNeck):
        raise ValueError('the backbone hands on its embeddings, and no PixelTextNeck takes them: '
                         'wrap one around the neck, or set backbone.with_embeddings=False')
    if neck is None:
        return maps
    try:
        return neck(maps)
    except (RuntimeError, AssertionError) as error:  # FPN asserts the number of maps
        channels = [each.shape[1] for each in maps if isinstance(each, Tensor)]
        raise ValueError(f"the neck cannot take the backbone's maps of {channels} channels "
                         f'({_said(error)}); give it these as in_channels') from error


def _cure(maps: Sequence[Tensor], score_map: bool, error: Exception) -> str:
    """The maps that a head cannot take, what it said, and what to write."""
    said = _said(error)
    if 'channels' in said:
        channels = [each.shape[1] for each in maps[:len(maps) - score_map]]
        return (f'maps of {channels} channels ({said}); give it these as in_channels, and the '
                'channels of a map that it takes beside them by their own name, as c1_in_channels '
                'of DeepLabV3+')
    cure = ''
    if isinstance(error, IndexError):
        cure = f'; in_index counts these {len(maps)} from 0'
    elif 'size' in said.lower():
        cure = ('; if it takes two of them as one, give both the same stride, as by '
                'backbone.strides=(1, 2, 1, 1)')
    return f'maps of {[tuple(each.shape[2:]) for each in maps]} cells ({said}){cure}'


def _said(error: Exception) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__


def heads_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Decode and auxiliary heads of a segmentor, by their names in the config."""
    for name in ('decode_head', 'auxiliary_head'):
        heads = getattr(model, name, None)
        if isinstance(heads, nn.ModuleList):
            yield from ((f'{name}.{place}', head) for place, head in enumerate(heads))
        elif heads is not None:
            yield name, heads


def _check_channels(name: str, head: BaseDecodeHead, channels: list[int],
                    score_map: bool) -> None:
    one = isinstance(head.in_index, int)
    places = [head.in_index] if one else list(head.in_index)
    if all(-len(channels) <= place < len(channels) for place in places):
        given = [channels[place] for place in places]
        if head.in_channels == (given if head.input_transform == 'multiple_select'
                                else sum(given)):
            return
        places = [place % len(channels) for place in places]
    maps = channels[:len(channels) - score_map]  # the score map is for its own head
    places = [min(max(place, 0), len(maps) - 1) for place in places]
    given = [maps[place] for place in places]
    raise ValueError(
        f'{name} ({type(head).__name__}) takes map {head.in_index} with {head.in_channels} '
        f'channels, but the maps have {maps}'
        + (f', the score map behind them {channels[-1]}' if score_map else '')
        + f'; write {name}.in_index={places[0] if one else places}, '
          f'in_channels={given[0] if one else given}')
