"""State dicts of CLIP as others name them, by open_clip's names."""

import re

import open_clip
import torch
from torch import Tensor

# What DDP, torch.compile and training loops put before a name, in any order.
_WRAPPER = re.compile(r'^(?:(?:module|model|_orig_mod)\.)+|(?<=\.)_orig_mod\.')

# Parts of names of Hugging Face's transformers (its towers of CLIP and SigLIP are alike, and put
# query, key and value in three layers), and what they are called in open_clip's own transformer
# and in timm's ViT, which open_clip takes for SigLIP's images.
_TO_OPEN_CLIP = {
    'embeddings.token_embedding.weight': 'token_embedding.weight',
    'embeddings.position_embedding.weight': 'positional_embedding',
    'embeddings.class_embedding': 'class_embedding',
    'embeddings.patch_embedding.': 'conv1.',
    'pre_layrnorm.': 'ln_pre.',  # sic
    'post_layernorm.': 'ln_post.',
    'final_layer_norm.': 'ln_final.',
    'encoder.layers.': 'transformer.resblocks.',
    '.layer_norm1.': '.ln_1.',
    '.layer_norm2.': '.ln_2.',
    '.self_attn.qkv.': '.attn.in_proj_',
    '.self_attn.': '.attn.',
    '.mlp.fc1.': '.mlp.c_fc.',
    '.mlp.fc2.': '.mlp.c_proj.',
    'head.': 'text_projection.',  # SigLIP's texts
}
_TO_TIMM = {
    'embeddings.position_embedding.weight': 'pos_embed',
    'embeddings.patch_embedding.': 'patch_embed.proj.',
    'post_layernorm.': 'norm.',
    'encoder.layers.': 'blocks.',
    '.layer_norm1.': '.norm1.',
    '.layer_norm2.': '.norm2.',
    '.self_attn.out_proj.': '.attn.proj.',
    '.self_attn.': '.attn.',
    'head.probe': 'attn_pool.latent',
    'head.layernorm.': 'attn_pool.norm.',
    'head.attention.out_proj.': 'attn_pool.proj.',
    'head.attention.': 'attn_pool.',
    'head.': 'attn_pool.',
}


def to_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a CLIP as open_clip does, the text tower under ``text.``.

    Prefixes that wrappers leave (``module.``, ``model.``, ``_orig_mod.``) go. The towers of
    ``CLIPModel`` and ``SiglipModel`` of Hugging Face's transformers are turned into those of
    open_clip; so are models of one tower alone.

    Args:
        state: a state dict of CLIP in any of these layouts.

    Returns:
        The state dict; tensors of no tower keep their names.

    Raises:
        ValueError: if two tensors get one name, or tensors that belong together do not fit; in
            words that follow "it is no CLIP, ".

    Examples:
        >>> sorted(to_open_clip({'module._orig_mod.visual.proj': torch.zeros(2, 3),
        ...                      'text_projection': torch.zeros(2, 3)}))
        ['text.text_projection', 'visual.proj']
    """
    names = {key: _WRAPPER.sub('', key) for key in state}
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise ValueError(f'it holds {twice} twice, under '
                         + ' and '.join(key for key in names if names[key] == twice))
    state = {names[key]: value for key, value in state.items()}
    if any(key.startswith(('text_model.', 'vision_model.')) for key in state):
        try:
            return _from_transformers(state)
        except (RuntimeError, TypeError) as error:  # a scalar has no length
            raise ValueError("its tensors have the names of Hugging Face's transformers, but do "
                             f'not fit together ({str(error).splitlines()[0]})') from None
    return open_clip.model.convert_to_custom_text_state_dict(state)


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both towers, or the one that there is."""
    text, image, rest = {}, {}, {}
    for key, value in state.items():
        tower, _, name = key.partition('.')
        if tower == 'text_model':
            text[name] = value
        elif tower == 'vision_model':
            image[name] = value
        elif key == 'text_projection.weight':
            rest['text.text_projection'] = value.mT.contiguous()
        elif key == 'visual_projection.weight':
            rest['visual.proj'] = value.mT.contiguous()
        else:
            rest[key] = value
    text = _renamed(_joined(text), _TO_OPEN_CLIP, 'text.')
    if 'embeddings.class_embedding' in image:
        image = _renamed(_joined(image), _TO_OPEN_CLIP, 'visual.')
    else:
        image = _renamed(_as_timm(_joined(image)), _TO_TIMM, 'visual.trunk.')
    return {**text, **image, **rest}


def _joined(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tower with query, key and value of each layer in one tensor, and without counters."""
    joined = {}
    for key, value in tower.items():
        found = re.fullmatch(r'(.*\.)([qkv])_proj(\..*)', key)
        three = [tower.get(f'{found[1]}{each}_proj{found[3]}') for each in 'qkv'] if found else []
        if not three or any(part is None for part in three):
            joined[key] = value
        elif found[2] == 'q':
            joined[f'{found[1]}qkv{found[3]}'] = torch.cat(three)
    joined.pop('embeddings.position_ids', None)  # of transformers before 4.31
    return joined


def _as_timm(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """SigLIP's image tower: timm's positions have a batch, its pool a query of its own."""
    cut = {}
    for key, value in tower.items():
        if key.startswith('head.attention.in_proj_'):
            kind, width = key.removeprefix('head.attention.in_proj_'), len(value) // 3
            cut[f'head.attention.q.{kind}'] = value[:width]
            cut[f'head.attention.kv.{kind}'] = value[width:]
        else:
            cut[key] = value[None] if key == 'embeddings.position_embedding.weight' else value
    return cut


def _renamed(tower: dict[str, Tensor], names: dict[str, str], prefix: str) -> dict[str, Tensor]:
    renamed = {}
    for key, value in tower.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        renamed[prefix + key] = value
    return renamed
