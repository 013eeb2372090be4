"""Which of open_clip's models can be used here, found out by building each of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from denseclip_mm.backbones import CLIPResNet, CLIPTIMMBackbone, CLIPVisionTransformer
from denseclip_mm.backbones.tower import backbone_of
from denseclip_mm.clip import clip_config
from denseclip_mm.text import CLIPTextTower

import open_clip
import torch

_BACKBONES = {each.__name__: each for each in (CLIPResNet, CLIPTIMMBackbone, CLIPVisionTransformer)}
_PAGE = """# CLIPs of open_clip

open_clip {version} has {names} models, with {pairs} sets of weights (a model and a tag).
{both_names} models, with {both_pairs} sets, can be used by both towers: image tower and text tower
take the name as `model`, a tag as `pretrained`. `open_clip.list_pretrained_tags_by_model(name)`
lists the tags.

A text tower that is refused can be done without: its texts are embedded elsewhere, and
`prompt=dict(type='TextEmbeddings', ...)` [takes them](configs.md#prompts). *tree*: prompts share
their beginnings. *padded*: the tower is not causal, so each prompt takes its full length ([what
that costs](performance.md#padded-text)). *Hugging Face*: the tokenizer needs the extra
`transformers`, and its files.

`python tools/analysis_tools/list_clips.py --out docs/clips.md` wrote this page; a test compares it
with open_clip.

| model | weights | image tower | text tower |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class CLIPModel:
    """What is known of a model of open_clip's.

    Attributes:
        name: of the model.
        tags: of its weights.
        backbone: class of the backbone that takes its image tower; None if none does.
        image_fault: why none does, in one line.
        text: how :class:`denseclip_mm.text.CLIPTextTower` runs its text tower; None if it does not.
        text_fault: why not, in one line.
    """

    name: str
    tags: tuple[str, ...]
    backbone: str | None
    image_fault: str
    text: str | None
    text_fault: str


def clip_models() -> list[CLIPModel]:
    """All models that open_clip ships, each built on the meta device: nothing is fetched."""
    built: dict[str, str] = {}
    with torch.device('meta'):
        return [_look_at(name, built) for name in open_clip.list_models() if name != 'DemoCLIP']


def page_of(models: Iterable[CLIPModel]) -> str:
    """The page of the documentation, in Markdown."""
    models = list(models)
    both = [model for model in models if model.backbone and model.text]
    page = _PAGE.format(
        version=open_clip.__version__, names=len(models), both_names=len(both),
        pairs=sum(len(model.tags) for model in models),
        both_pairs=sum(len(model.tags) for model in both))
    for model in models:
        backbone = f'`{model.backbone}`' if model.backbone else f'no: {model.image_fault}'
        page += (f'| `{model.name}` | {len(model.tags)} | {backbone} | '
                 f'{model.text or f"no: {model.text_fault}"} |\n')
    return page


def _look_at(name: str, built: dict[str, str]) -> CLIPModel:
    """Build both towers, but for those that are ``built``, by their configs."""
    config = clip_config(name)
    backbone, text, faults = backbone_of(config), None, ['', '']
    image_key, text_key = (json.dumps([config['embed_dim'], config[part]])
                           for part in ('vision_cfg', 'text_cfg'))
    try:
        if image_key not in built:
            _BACKBONES[backbone](model=name)
            built[image_key] = backbone
    except ValueError as error:
        backbone, faults[0] = None, _reason(error, name)
    try:
        if text_key not in built:
            tower = CLIPTextTower(model=name)
            built[text_key] = f'padded to {tower.context_length}' if tower.is_padded else 'tree'
            if config['text_cfg'].get('hf_tokenizer_name'):
                built[text_key] += ', Hugging Face'
        text = built[text_key]
    except ValueError as error:
        faults[1] = _reason(error, name)
    return CLIPModel(name, tuple(open_clip.list_pretrained_tags_by_model(name)), backbone,
                     faults[0], text, faults[1])


def _reason(error: ValueError, name: str) -> str:
    """What an error says of a model, without the model and what to do."""
    return str(error).split('; ')[0].split(f'{name!r} ', 1)[-1]
