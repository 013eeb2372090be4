"""Contexts that are words: which words, their gradient, how they read, and a model of them."""

import re

from denseclip_mm.apis.checkpoints.export import drop_text_tower
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.text import CLIPTextTower, DiscreteContext, LearnedContext, TemplatePrompt

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

NAMES = ['sky', 'pool table', 'u.s.', 'pool']


def build(tower: CLIPTextTower, **options: object) -> DiscreteContext:
    torch.manual_seed(1)
    prompt = DiscreteContext(text_encoder=tower, texts=NAMES, **options)
    prompt.start_from_words(tower)
    return prompt


def embed(prompt, tower: CLIPTextTower) -> Tensor:
    return prompt(tower, prompt.lay_out(tower, NAMES))


def nearest(prompt: DiscreteContext, tower: CLIPTextTower, allowed: list[int]) -> np.ndarray:
    """By the definition, in numpy, one context after the other."""
    table = tower.tower.token_embedding.weight.detach().numpy().astype(np.float64)[allowed]
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    vectors = prompt.contexts.detach().numpy().astype(np.float64).reshape(-1, tower.width)
    return np.array([allowed[np.argmax(table @ vector)] for vector in vectors]).reshape(
        prompt.contexts.shape[:-1])


@pytest.mark.parametrize('options', [
    dict(num_context=5), dict(num_context=3, class_specific=True),
    dict(num_context=4, whole_words=False)])
def test_the_tower_is_given_the_nearest_tokens(pair, options: dict) -> None:
    _, tower = pair
    prompt = build(tower, **options)
    torch.nn.init.normal_(prompt.contexts)
    tokenizer = tower.tokenizer
    allowed = [token for token, symbols in tokenizer.decoder.items()
               if token not in (49406, 49407) and (
                   options.get('whole_words') is False
                   or (symbols.endswith('</w>') and symbols.isascii() and '{' not in symbols
                       and tokenizer.encode(symbols.removesuffix('</w>')) == [token]))]
    tokens = prompt.tokens(tower)
    np.testing.assert_array_equal(tokens.numpy(), nearest(prompt, tower, allowed))
    # The same tokens as learned contexts, which are given to the tower as they are.
    given = LearnedContext(
        text_encoder=tower, texts=NAMES, num_context=options['num_context'],
        class_specific=options.get('class_specific', False))
    given.contexts.data = tower.tower.token_embedding.weight[tokens]
    assert torch.equal(embed(prompt, tower), embed(given, tower))


@pytest.mark.parametrize('word', [
    '<start_of_text>', '<end_of_text>', 'photo', 'é</w>', 'A</w>', '{</w>'])
def test_what_is_never_chosen(pair, word: str) -> None:
    """Start, end, parts of words, what is typed otherwise, what could be the place of the name."""
    _, tower = pair
    token = tower.tokenizer.encoder[word.encode().decode('latin-1')]
    prompt = build(tower, num_context=1)
    prompt.contexts.data = tower.tower.token_embedding.weight[[token]].clone()
    assert prompt.tokens(tower).tolist() != [token]
    parts = build(tower, num_context=1, whole_words=False)
    parts.contexts.data = prompt.contexts.data
    assert (parts.tokens(tower).tolist() == [token]) == (not word.startswith('<'))


@pytest.mark.parametrize('options', [
    dict(num_context=6),
    dict(num_context=5, class_position='front'),
    dict(num_context=5, class_position='middle', full_stop=True),
    dict(num_context=3, class_specific=True, full_stop=True)])
def test_typed_as_a_template_it_is_the_same(build_pair, tiny_vit, options: dict) -> None:
    _, tower = build_pair(tiny_vit)
    for seed in range(20):  # words of all kinds
        prompt = build(tower, **options)
        torch.manual_seed(seed)
        torch.nn.init.normal_(prompt.contexts)
        templates = prompt.templates(tower)
        assert len(templates) == (len(NAMES) if options.get('class_specific') else 1)
        actual = F.normalize(embed(prompt, tower), dim=-1)[0]
        for place, row in enumerate(actual):
            typed = TemplatePrompt(text_encoder=tower, texts=NAMES,
                                   templates=templates[place % len(templates)])
            expected = embed(typed, tower)[0, place]
            torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)


def test_starts_from_words_that_one_gives(pair) -> None:
    _, tower = pair
    prompt = build(tower, init_words='a photo of a')
    assert prompt.templates(tower) == ['a photo of a {}']
    assert prompt.contexts.shape == (4, tower.width)
    drawn = build(tower, num_context=8).templates(tower)[0].split()
    assert len(drawn) == 9 and drawn[-1] == '{}' and len(set(drawn)) > 5


def test_parts_of_words_cannot_be_a_start(pair) -> None:
    _, tower = pair
    message = "init_words='a phototype' holds 'photo-', which is no whole word to CLIP"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(tower, init_words='a phototype')
    assert build(tower, init_words='a phototype', whole_words=False).templates(tower) == [
        'a photo- type {}']


def test_gradient_is_that_of_the_words(tiny_vit) -> None:
    """The definition of straight through: the loss's slope at the tokens, handed to the contexts.

    The slope is by finite differences in float64, of contexts that are given as they are.
    """
    torch.manual_seed(0)
    tower = CLIPTextTower(model=tiny_vit).double()
    prompt = build(tower, num_context=3).double()
    torch.nn.init.normal_(prompt.contexts)
    target = torch.randn(1, len(NAMES), tower.embed_dim, dtype=torch.float64)
    (embed(prompt, tower) * target).sum().backward()
    given = LearnedContext(text_encoder=tower, texts=NAMES, num_context=3).double()
    start = tower.tower.token_embedding.weight[prompt.tokens(tower)].detach()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        values = []
        for step in (1e-6, -1e-6):
            given.contexts.data = start + step * direction
            values.append((embed(given, tower) * target).sum().item())
        slope = (values[0] - values[1]) / 2e-6
        assert (prompt.contexts.grad * direction).sum().item() == pytest.approx(slope, rel=1e-5)
    assert prompt.contexts.grad.abs().sum() > 0


def test_a_step_that_is_large_enough_changes_the_word(pair) -> None:
    _, tower = pair
    prompt = build(tower, init_words='photo')
    word = tower.tower.token_embedding.weight[tower.tokenize('dog')[0]]
    optimizer = torch.optim.SGD(prompt.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (1 - F.cosine_similarity(prompt.vectors(tower)[0], word, dim=0)).backward()
        optimizer.step()
    assert prompt.templates(tower) == ['dog {}']


def test_in_a_model(tiny_resnet, model_config) -> None:
    """Other names, and the model without its tower, follow the words."""
    cfg = model_config(tiny_resnet, NAMES)
    cfg['neck']['prompt'] = dict(type='DiscreteContext', num_context=3)
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    model.neck.init_weights()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        view = answer_names(model, ['cat', 'dog;puppy'])
        other = answer_names(MODELS.build({**cfg, 'neck': {**cfg['neck'], 'prompt': dict(
            type='TemplatePrompt', templates=model.neck.prompt.templates(
                model.neck.text_encoder))}}).eval(), ['cat', 'dog;puppy'])
        other.backbone, other.neck.text_encoder = model.backbone, model.neck.text_encoder
        torch.testing.assert_close(view.extract_feat(pixels)[-1], other.extract_feat(pixels)[-1],
                                   rtol=1e-5, atol=1e-5)
        before = model.extract_feat(pixels)
        drop_text_tower(model)
        for ours, theirs in zip(model.extract_feat(pixels), before, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_under_autocast_the_words_are_the_same(pair) -> None:
    """What training uses is what is logged, evaluated and exported."""
    _, tower = pair
    prompt = build(tower, num_context=64)
    torch.nn.init.normal_(prompt.contexts)
    expected = prompt.tokens(tower)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cpu', dtype=dtype):
            assert torch.equal(prompt.tokens(tower), expected)


def test_a_tower_of_fewer_tokens(tiny_vit) -> None:
    tiny_vit['text_cfg']['vocab_size'] = 1000
    with pytest.raises(ValueError, match='the text tower embeds 1000 tokens, but its tokenizer '
                                         'makes 49408; set vocab_size'):
        DiscreteContext(text_encoder=CLIPTextTower(model=tiny_vit), texts=['1'])
