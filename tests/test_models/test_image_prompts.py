"""Prompts that look at the image: against padded prompts, image by image; what runs; gradients."""

from collections.abc import Callable

from denseclip_mm.models.image_prompts import ConditionalContext, VisualContext
from denseclip_mm.text import CLIPTextTower, LearnedContext

import open_clip
import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

VOCAB = 49408
NAMES = ['sky', 'pool table', 'pool', 'crt screen']
EMBED_DIM, WIDTH = 24, 32
FPN = dict(type='FPN', in_channels=[4, 4, 4, 4], out_channels=4, num_outs=4)
DECODER = dict(width=16, num_heads=2, num_layers=2)
PROMPTS = {
    'coop': dict(type='LearnedContext', num_context=3),
    'coop class-specific': dict(type='LearnedContext', num_context=2, class_specific=True),
    'cocoop': dict(type='ConditionalContext', num_context=3),
    'pre-model': dict(type='VisualContext', num_context=3, dropout=0.0, **DECODER),
}


def tokens(images: int = 3) -> Tensor:
    return torch.randn(images, 1 + 6, EMBED_DIM, generator=torch.Generator().manual_seed(5))


def padded(clip: open_clip.CLIP, contexts: Tensor, layout: Callable) -> Tensor:
    """Embed 'contexts + name' as CoCoOp does, every prompt of every image padded to 77 tokens."""
    tokenizer = open_clip.SimpleTokenizer()
    rows = []
    for vectors in contexts:
        for name in NAMES:
            words = clip.token_embedding(torch.tensor(tokenizer.encode(name)))
            start, end = clip.token_embedding(torch.tensor([49406, 49407]))
            prompt = torch.cat([start[None], *layout(vectors, words), end[None]])
            x = F.pad(prompt, (0, 0, 0, 77 - len(prompt))) + clip.positional_embedding
            causal = torch.full((77, 77), float('-inf')).triu(1)
            x = clip.ln_final(clip.transformer(x[None], attn_mask=causal))
            rows.append(x[0, len(prompt) - 1] @ clip.text_projection)
    return torch.stack(rows).unflatten(0, (len(contexts), len(NAMES)))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def test_conditional_context_as_in_cocoop(pair) -> None:
    """Equation 4 of the CoCoOp paper: v_m(x) = v_m + h(x), h two layers with a ReLU between."""
    clip, tower = pair
    prompt = ConditionalContext(text_encoder=tower, texts=NAMES, num_context=4)
    visual = tokens()
    image = visual[:, 0] / visual[:, 0].norm(dim=1, keepdim=True)
    first, _, second = prompt.meta_net
    assert first.weight.shape == (EMBED_DIM // 16, EMBED_DIM)
    assert second.weight.shape == (WIDTH, EMBED_DIM // 16)
    hidden = (image @ first.weight.T + first.bias).clamp(min=0)
    shift = hidden @ second.weight.T + second.bias
    contexts = torch.stack([prompt.contexts + row for row in shift])
    actual = prompt(tower, prompt.lay_out(tower, NAMES), visual)
    close(actual, padded(clip, contexts, lambda c, n: (c, n)))
    assert (actual[0] - actual[1]).abs().max() > 1e-4 * actual.abs().max()


def test_bottleneck_is_a_sixteenth() -> None:
    tower = CLIPTextTower(model='RN50-quickgelu')
    prompt = ConditionalContext(text_encoder=tower, texts=NAMES, init_words='a photo of a')
    assert sum(parameter.numel() for parameter in prompt.meta_net.parameters()) == (
        1024 * 64 + 64 + 64 * 512 + 512)
    prompt.start_from_words(tower)
    words = tower.tower.token_embedding.weight[tower.tokenize('a photo of a')]
    assert torch.equal(prompt.contexts, words)


@pytest.mark.parametrize(('position', 'layout'), [
    ('end', lambda c, n: (c, n)), ('front', lambda c, n: (n, c)),
    ('middle', lambda c, n: (c[:1], n, c[1:]))])
@torch.no_grad()
def test_visual_context_is_what_the_decoder_says(pair, position: str, layout: Callable) -> None:
    """Equation 3 of the DenseCLIP paper, image by image."""
    clip, tower = pair
    prompt = VisualContext(text_encoder=tower, texts=NAMES, num_context=3,
                           class_position=position, **DECODER).eval()
    visual = tokens()
    contexts = torch.cat([prompt.decoder(prompt.queries[None], image[None]) for image in visual])
    assert contexts.shape == (3, 3, WIDTH)
    actual = prompt(tower, prompt.lay_out(tower, NAMES), visual)
    close(actual, padded(clip, contexts, layout))
    assert (actual[0] - actual[1]).abs().max() > 1e-4 * actual.abs().max()


@pytest.mark.parametrize('kind', ['cocoop', 'pre-model'])
def test_tower_runs_on_the_tree_of_each_image(pair, kind: str) -> None:
    """Not on the names times their padded length."""
    _, tower = pair
    prompt = MODELS.build(PROMPTS[kind], default_args=dict(text_encoder=tower, texts=NAMES))
    trees = prompt.lay_out(tower, NAMES)
    seen = []
    tower.tower.transformer.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape))
    prompt(tower, trees, tokens())
    # start, 3 contexts, sky, its end, pool, its end, table, its end, crt (c, rt), screen, its end
    assert [len(tree) for tree in trees] == [4 + sum(
        len(tower.tokenize(name)) + 1 for name in NAMES) - 1]
    assert seen == [(3, len(trees[0]), WIDTH)]


def test_ade20k_with_8_contexts_is_342_tokens_an_image(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, dict(type='VisualContext', **DECODER), class_names='ade20k')
    assert sum(map(len, neck.vocabulary.trees)) == 342


def test_num_context_zero(pair) -> None:
    with pytest.raises(ValueError, match='at least one context is needed'):
        VisualContext(text_encoder=pair[1], texts=NAMES, num_context=0)


@pytest.mark.parametrize('type_', [ConditionalContext, VisualContext])
def test_keyword_typo(pair, type_: type) -> None:
    with pytest.raises(TypeError, match='num_contexts'):
        type_(text_encoder=pair[1], texts=NAMES, num_contexts=4)
    with pytest.raises(TypeError, match='class_specific'):
        type_(text_encoder=pair[1], texts=NAMES, class_specific=True)


# In the neck


def build(clip: dict, prompt: dict, decoder: bool = False, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    neck = MODELS.build(dict(
        type='PixelTextNeck', class_names=NAMES, score_map_index=3, neck=FPN, prompt=prompt,
        text_encoder=dict(type='CLIPTextTower', model=clip)) | changes | (
            dict(context_decoder=dict(type='ContextDecoder', dropout=0.0, **DECODER))
            if decoder else {}))
    if decoder:
        nn.init.normal_(neck.gamma)
    return neck.eval()


def features(seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)

    return (noise(4, 16, 24), noise(4, 8, 12), noise(4, 4, 6), noise(4, 2, 3),
            (noise(EMBED_DIM), noise(EMBED_DIM, 2, 3)))


@pytest.mark.parametrize('kind', ['cocoop', 'pre-model'])
@torch.no_grad()
def test_every_image_has_its_own_text(tiny_resnet: dict, kind: str) -> None:
    """The score map of an image is the same alone and in a batch, and is never kept for another."""
    neck = build(tiny_resnet, PROMPTS[kind])
    for seed in (1, 2):
        inputs = features(seed)
        together = neck(inputs)[-1]
        *maps, (image, dense) = inputs
        for index in range(2):
            one = slice(index, index + 1)
            alone = neck((*(fmap[one] for fmap in maps), (image[one], dense[one])))[-1]
            torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-6)
        tokens_BNC = torch.cat([image[:, None], dense.flatten(2).mT], dim=1)
        text = neck.prompt(neck.text_encoder, neck.vocabulary.trees, tokens_BNC)
        expected = F.cosine_similarity(text[:, :, :, None, None], dense[:, None], dim=2)
        torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('kind', ['cocoop', 'pre-model'])
@torch.no_grad()
def test_other_names_carry_over(tiny_resnet: dict, kind: str) -> None:
    neck = build(tiny_resnet, PROMPTS[kind])
    other = build(tiny_resnet, PROMPTS[kind], class_names=['bus', 'sea', 'oak tree', 'cat'])
    other.load_state_dict(neck.state_dict())
    neck.set_class_names(['bus', 'sea', 'oak tree', 'cat'])
    for ours, theirs in zip(neck(features()), other(features()), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(('kind', 'decoder', 'learned'), [
    ('coop', False, ['prompt.contexts']),
    ('coop class-specific', False, ['prompt.contexts']),
    ('coop', True, ['prompt.contexts', 'gamma']),
    ('cocoop', False, ['prompt.contexts', 'prompt.meta_net.0.weight', 'prompt.meta_net.2.weight',
                       'prompt.meta_net.2.bias']),
    ('pre-model', False, ['prompt.queries', 'prompt.decoder.memory_proj.1.weight',
                          'prompt.decoder.layers.0.cross_attn.v_proj.weight',
                          'prompt.decoder.out_proj.1.bias']),
    ('pre-model', True, ['prompt.queries', 'gamma']),
])
def test_dense_gradient_against_finite_differences(
        tiny_resnet: dict, kind: str, decoder: bool, learned: list[str]) -> None:
    """The cross entropy of the score map, differentiated along random directions in float64."""
    neck = build(tiny_resnet, PROMPTS[kind], decoder).double()
    inputs = features(dtype=torch.float64)
    labels = torch.randint(0, len(NAMES), (2, 2, 3), generator=torch.Generator().manual_seed(2))
    if kind == 'cocoop':  # a dead ReLU would have no gradient to compare
        nn.init.constant_(neck.prompt.meta_net[0].bias, 2.0)

    def loss() -> Tensor:
        return F.cross_entropy(neck(inputs)[-1] / 0.07, labels)

    parameters = [neck.get_parameter(name) for name in learned]
    gradients = torch.autograd.grad(loss(), parameters)
    for name, parameter, gradient in zip(learned, parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, dtype=torch.float64,
                                generator=torch.Generator().manual_seed(3))
        step, start = 1e-5 / direction.norm(), parameter.detach().clone()
        values = []
        for sign in (1, -1):
            parameter.data = start + sign * step * direction
            values.append(loss().item())
        parameter.data = start
        slope = (values[0] - values[1]) / (2 * step.item())
        analytic = (gradient * direction).sum().item()
        assert abs(analytic) > 1e-7, name
        assert analytic == pytest.approx(slope, rel=1e-4, abs=1e-8), name


def test_prompts_say_whether_they_look_at_the_image() -> None:
    assert ConditionalContext.depends_on_image
    assert VisualContext.depends_on_image
    assert not LearnedContext.depends_on_image
