"""How large a CLIP may be: the config of a folder is a stranger's, and memory is not without end.

The largest that open_clip builds itself, ViT-e-14, has 3.8 billion numbers in a tower, in 56 layers
of 1,792 channels; its text towers read up to 77 tokens, of up to 901,629.
"""

from typing import Any

_MOST_NUMBERS = 10**10  # in a tower: 40 GB in float32
_WHOLE = dict(  # the most of each whole number
    embed_dim=2**14, width=2**14, layers=1000, heads=1024, head_width=2**14, context_length=2**14,
    vocab_size=2 * 10**6, image_size=2**13, patch_size=2**10, attn_pooler_queries=2**14,
    attn_pooler_heads=1024)
_MOST_RATIO = 64  # of mlp_ratio
_SEVERAL = {'vision_cfg.layers': (4, ', or four of them for a ResNet'),
            'vision_cfg.image_size': (2, ', or two of them')}
_USUAL = dict(  # open_clip's, where a config says nothing
    vision_cfg=dict(layers=12, width=768, head_width=64, mlp_ratio=4.0, patch_size=16,
                    image_size=224),
    text_cfg=dict(layers=12, width=512, heads=8, mlp_ratio=4.0, context_length=77,
                  vocab_size=49408))


def check_sizes(config: dict[str, Any], where: str) -> None:
    """Refuse a model config whose sizes are none, or far beyond those of every CLIP there is.

    Args:
        config: with ``embed_dim``, ``vision_cfg`` and ``text_cfg``.
        where: it is from, for the error message.

    Raises:
        ValueError: if a size is no whole number from 1 to its limit, a width does not divide into
            its heads, or a tower would have more than ten billion numbers; says which.

    Examples:
        >>> check_sizes(dict(embed_dim=64, vision_cfg={}, text_cfg=dict(layers=10**9)), 'this one')
        Traceback (most recent call last):
        ValueError: this one has text_cfg.layers=1000000000, which has to be a whole number from 1 \
to 1,000
    """
    _check(dict(embed_dim=config['embed_dim']), where, '')
    for name in ('vision_cfg', 'text_cfg'):
        tower = config[name]
        if not isinstance(tower, dict):
            raise ValueError(f'{where} has {name}={_short(tower)}, which has to be a dict')
        _check(tower, where, f'{name}.')
        if tower.get('timm_model_name') or tower.get('hf_model_name'):
            continue  # whose sizes are known by name
        sizes = {**_USUAL[name], **tower}
        channels, heads, numbers = _count(sizes, config['embed_dim'])
        if heads < 1 or channels % heads:
            raise ValueError(f'{where} has {channels:,} channels in {heads:,} heads of its {name}; '
                             'the heads have to share them evenly')
        if numbers > _MOST_NUMBERS:
            raise ValueError(f'{where} has sizes in its {name} that make {numbers:,.0f} numbers; '
                             f'{_MOST_NUMBERS:,} is the most')


def _check(sizes: dict[str, Any], where: str, prefix: str) -> None:
    for key, value in sizes.items():
        if key == 'mlp_ratio' and not _is_size(value, int | float, _MOST_RATIO):
            raise ValueError(f'{where} has {prefix}{key}={_short(value)}, which has to be a number '
                             f'above 0, {_MOST_RATIO} at most')
        if key not in _WHOLE or (key == 'patch_size' and value is None):  # as of ResNets
            continue
        several = _SEVERAL.get(f'{prefix}{key}', (0, ''))
        is_list = isinstance(value, list | tuple) and len(value) == several[0]
        if not all(_is_size(part, int, _WHOLE[key]) for part in (value if is_list else [value])):
            raise ValueError(f'{where} has {prefix}{key}={_short(value)}, which has to be a whole '
                             f'number from 1 to {_WHOLE[key]:,}{several[1]}')


def _is_size(value: Any, kind: Any, most: int) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and 0 < value <= most


def _count(tower: dict[str, Any], embed_dim: int) -> tuple[int, int, float]:
    """Channels of a tower's attention, its heads, and about how many numbers it has."""
    width, layers = tower['width'], tower['layers']
    if isinstance(layers, list | tuple):  # of a ResNet: as if each block was of the last stage
        channels = 32 * width
        return channels, channels // tower['head_width'], (sum(layers) + 4) * channels**2
    blocks = layers * width**2 * (4 + 2 * tower['mlp_ratio'])
    if 'vocab_size' in tower:
        length = tower['context_length']
        rows = tower['vocab_size'] + length + embed_dim
        return width, tower['heads'], blocks + length**2 + width * rows
    size, patch = tower['image_size'], tower['patch_size'] or 1
    height, wide = size if isinstance(size, list | tuple) else (size, size)
    rows = 3 * patch**2 + height // patch * (wide // patch) + embed_dim
    return width, width // tower['head_width'], blocks + width * rows


def _short(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f'a number of {value.bit_length():,} bits'
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
