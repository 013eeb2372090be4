"""Text towers that are not causal, and tokenizers of Hugging Face, against open_clip's own way."""

import sys
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.text import CLIPTextTower, LearnedContext, TemplatePrompt, grow_trees

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ['sky', 'pool table', 'pool', 'crt screen', 'a sea lion on the street']
SIGLIP = dict(no_causal_mask=True, pool_type='last', proj_bias=True, context_length=16,
              norm_kwargs=dict(eps=1e-6), act_kwargs=dict(approximate='tanh'))
# Text configs by kind: of SigLIP, of its i18n model, CLIPA, MobileCLIP, MetaCLIP 2, and rarer ones.
KINDS = {
    'siglip': dict(SIGLIP, hf='t5', tokenizer_kwargs=dict(clean='canonicalize')),
    'siglip2': dict(SIGLIP, hf='gemma', tokenizer_kwargs=dict(clean='canonicalize')),
    'siglip-i18n': dict(SIGLIP, hf='t5', width=24, proj_type='none'),
    'clipa': dict(no_causal_mask=True, pool_type='last', context_length=16, hf='bert',
                  tokenizer_kwargs=dict(strip_sep_token=True)),
    'mobileclip': dict(no_causal_mask=True),
    'metaclip2': dict(pool_type='eos', eos_id=2, hf='xlm'),
    'first': dict(no_causal_mask=True, pool_type='first'),
    'last of causal': dict(pool_type='last'),
}


def same(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture
def build(tiny_vit: dict, tokenizer_folder: Callable, tmp_path: Path) -> Callable:
    """Builds open_clip's model of a kind, its tokenizer, and our tower with its weights."""
    def build(kind: str) -> tuple[open_clip.CustomTextCLIP, Callable, CLIPTextTower]:
        text = {**tiny_vit['text_cfg'], **KINDS[kind]}
        hf = text.pop('hf', None)
        if hf:
            text.update(hf_tokenizer_name=tokenizer_folder(hf), vocab_size=256)
            tokenizer = HFTokenizer(text['hf_tokenizer_name'],
                                    context_length=text['context_length'],
                                    **text.get('tokenizer_kwargs', {}))
        else:
            tokenizer = open_clip.SimpleTokenizer()
        config = dict(tiny_vit, quick_gelu=False, text_cfg=text)
        torch.manual_seed(0)
        clip = open_clip.CustomTextCLIP(**config).eval()
        with torch.no_grad():  # as large as trained ones, so that every token matters
            for weight in (clip.text.token_embedding.weight, clip.text.positional_embedding):
                weight.normal_()
        torch.save(clip.state_dict(), tmp_path / 'clip.pt')
        tower = CLIPTextTower(model=config, pretrained=str(tmp_path / 'clip.pt'))
        tower.init_weights()
        return clip, tokenizer, tower
    return build


def trees_of(tower: CLIPTextTower, texts: list[str], max_tokens: int = 512) -> nn.ModuleList:
    return grow_trees([tower.prompt(tower.tokenize(text)) for text in texts], max_tokens)


@pytest.mark.parametrize('kind', KINDS)
def test_texts_embed_as_in_open_clip(kind: str, build: Callable) -> None:
    clip, tokenizer, tower = build(kind)
    texts = [*NAMES, 'A  Photo, of the_large sea.', 'lion ' * 3]
    with torch.no_grad():
        expected = clip.encode_text(tokenizer(texts))
        for max_tokens in (512, 12):  # in one go, and a few names at a time
            same(tower(trees_of(tower, texts, max_tokens)), expected[None])
    assert torch.pdist(expected).min() > 1e-3


@pytest.mark.parametrize('position', ['end', 'middle', 'front'])
@pytest.mark.parametrize('class_specific', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_learned_contexts_and_their_gradients(kind: str, class_specific: bool, position: str,
                                              build: Callable) -> None:
    """Vectors in the places of tokens, each prompt by itself, padded as open_clip pads texts."""
    clip, tokenizer, tower = build(kind)
    prompt = LearnedContext(text_encoder=tower, texts=NAMES, num_context=5, std=0.5,
                            class_position=position, class_specific=class_specific)
    actual = prompt(tower, prompt.lay_out(tower, NAMES))

    text = clip.text
    contexts = prompt.contexts.detach().clone().requires_grad_()
    rows = []
    for index, name in enumerate(NAMES):
        tokens = tokenizer([name])[0]
        inner = tower.tokenize(name)
        first = next(at for at in range(len(tokens)) if tokens[at:].tolist()[:len(inner)] == inner)
        own = contexts[index] if class_specific else contexts
        before = {'end': 5, 'middle': 2, 'front': 0}[position]
        embedded = text.token_embedding(tokens)
        rest = embedded[first + len(inner):]
        sequence = torch.cat([embedded[:first], own[:before], embedded[first:first + len(inner)],
                              own[before:], rest])[:text.context_length]
        mask = None if text.attn_mask is None else text.attn_mask
        states = text.transformer((sequence + text.positional_embedding)[None], attn_mask=mask)[0]
        end = first + len(inner) + 5
        at = {'first': 0, 'last': -1}.get(text.pool_type, end)
        state = text.ln_final(states[at])
        if text.text_projection is None:
            rows.append(state)
        elif isinstance(text.text_projection, nn.Linear):
            rows.append(text.text_projection(state))
        else:
            rows.append(state @ text.text_projection)
    expected = torch.stack(rows)
    same(actual, expected[None])

    weight = torch.randn(expected.shape)
    (actual[0] * weight).sum().backward()
    (expected * weight).sum().backward()
    assert contexts.grad.abs().amax(-1).max() > 1e-4
    same(prompt.contexts.grad, contexts.grad)


def test_vectors_of_each_image(build: Callable) -> None:
    """Two images, the second's vectors as if they were alone."""
    _, _, tower = build('mobileclip')
    trees = grow_trees([tower.prompt([49408, 49409], tower.tokenize(name)) for name in NAMES])
    learned = torch.randn(2, 2, tower.width)
    with torch.no_grad():
        both = tower(trees, learned)
        for index in range(2):
            same(both[index:index + 1], tower(trees, learned[index:index + 1]))
    assert (both[0] - both[1]).abs().max() > 1e-3


@pytest.mark.parametrize('kind', ['siglip', 'clipa', 'mobileclip', 'metaclip2'])
def test_templates(kind: str, build: Callable) -> None:
    clip, tokenizer, tower = build(kind)
    templates = ['a photo of {}', '{}']
    prompt = TemplatePrompt(text_encoder=tower, texts=NAMES, templates=templates)
    with torch.no_grad():
        actual = prompt(tower, prompt.lay_out(tower, NAMES))
        rows = [F.normalize(clip.encode_text(tokenizer(
            [template.format(name) for name in NAMES])), dim=-1) for template in templates]
    same(actual, F.normalize(torch.stack(rows).mean(0), dim=-1)[None])


def test_a_prompt_that_does_not_fit(build: Callable) -> None:
    """open_clip would cut it."""
    _, _, tower = build('siglip')
    with pytest.raises(ValueError, match='17 tokens, but the text tower takes 16; shorten'):
        tower(trees_of(tower, ['sky ' * 16]))
    prompt = LearnedContext(text_encoder=tower, texts=['sky'], num_context=15)
    with pytest.raises(ValueError, match="'sky' with 15 contexts has 17 tokens"):
        prompt.lay_out(tower, ['sky'])


def test_fewer_positions_are_no_part_of_a_padded_tower(build: Callable) -> None:
    _, _, tower = build('mobileclip')
    state = tower.state_dict()
    state['tower.positional_embedding'] = state['tower.positional_embedding'][:13]
    with pytest.raises(RuntimeError, match=r'size mismatch for tower\.positional_embedding'):
        tower.load_state_dict(state)


# Where the tokenizer comes from


def test_a_tower_is_built_without_its_tokenizer(tiny_vit: dict) -> None:
    """Nothing is read before the first text; then the message says what is missing."""
    tiny_vit['quick_gelu'] = False
    tiny_vit['text_cfg'].update(KINDS['siglip'], hf_tokenizer_name='nobody/nowhere')
    del tiny_vit['text_cfg']['hf']
    tower = CLIPTextTower(model=tiny_vit)
    if 'transformers' in sys.modules:
        with pytest.raises(FileNotFoundError, match="tokenizer 'nobody/nowhere' could not be read "
                                                    r'\(no network: .*tokenizer= of the text'):
            tower.tokenize('sky')


def test_the_extra_is_missing(tiny_vit: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'transformers', None)
    tiny_vit['text_cfg'].update(hf_tokenizer_name='timm/ViT-B-16-SigLIP')
    with pytest.raises(ImportError, match='transformers is not installed; '
                                          r"pip install 'denseclip_mm\[transformers\]'"):
        CLIPTextTower(model=tiny_vit).tokenize('sky')


@pytest.mark.parametrize('file', [False, True])
def test_a_local_tokenizer(tiny_vit: dict, tokenizer_folder: Callable, file: bool) -> None:
    folder = tokenizer_folder('gemma')
    tiny_vit['text_cfg'].update(vocab_size=256, hf_tokenizer_name='nobody/nowhere')
    tower = CLIPTextTower(model=tiny_vit,
                          tokenizer=f'{folder}/tokenizer.json' if file else folder)
    assert tower.tokenizer.pad == 0
    assert tower.prompt([7, 8]) == [7, 8, 1]
    assert [tower.tokenizer.readable(token) for token in tower.tokenize('sky pool')] == [
        'sky', 'pool']


def test_a_folder_without_a_tokenizer(tiny_vit: dict, tokenizer_folder: Callable,
                                      tmp_path: Path) -> None:
    folder = Path(tokenizer_folder('gemma'))
    for broken in ('', '{"version"'):
        (folder / 'tokenizer.json').write_text(broken)
        tiny_vit['text_cfg'].update(vocab_size=256, hf_tokenizer_name=str(folder))
        with pytest.raises(ValueError, match=r'gemma.* could not be read \('):
            CLIPTextTower(model=tiny_vit).tokenize('sky')
