"""The context decoder against one put together from torch's own multi-head attention."""

import math

from denseclip_mm.models.context_decoder import Attention, ContextDecoder

import pytest
import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


def randomised(**arguments: object) -> ContextDecoder:
    """Random in every tensor, norms and biases too, in float64."""
    decoder = ContextDecoder(**arguments).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in decoder.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        nn.init.zeros_(parameter).data.add_(0.4 * noise)
    return decoder


def inputs(texts: int = 5, tokens: int = 7, channels: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(2, texts, channels, generator=generator, dtype=torch.float64),
            torch.randn(2, tokens, channels, generator=generator, dtype=torch.float64))


def published(decoder: ContextDecoder, text: Tensor, visual: Tensor, num_heads: int) -> Tensor:
    """DenseCLIP's decoder as design.md, section 4, describes it, from the decoder's weights."""
    weights = dict(decoder.named_parameters())

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f'{name}.weight'], weights[f'{name}.bias'])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f'{name}.weight'], weights[f'{name}.bias'])

    def attend(query: Tensor, memory: Tensor, name: str) -> Tensor:
        attention = nn.MultiheadAttention(query.shape[-1], num_heads, batch_first=True).double()
        projections = [weights[f'{name}.{part}_proj.weight'] for part in 'qkv']
        attention.load_state_dict({
            'in_proj_weight': torch.cat(projections),
            'in_proj_bias': torch.zeros_like(attention.in_proj_bias),
            'out_proj.weight': weights[f'{name}.proj.weight'],
            'out_proj.bias': weights[f'{name}.proj.bias']})
        return attention(query, memory, memory)[0]

    memory = norm(linear(norm(visual, 'memory_proj.0'), 'memory_proj.1'), 'memory_proj.2')
    x = linear(norm(text, 'text_proj.0'), 'text_proj.1')
    for index in range(len(decoder.layers)):
        layer = f'layers.{index}'
        query = norm(x, f'{layer}.norm1')
        x = x + attend(query, query, f'{layer}.self_attn')
        x = x + attend(norm(x, f'{layer}.norm2'), memory, f'{layer}.cross_attn')
        hidden = linear(norm(x, f'{layer}.norm3'), f'{layer}.mlp.0')
        x = x + linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f'{layer}.mlp.3')
    return linear(norm(x, 'out_proj.0'), 'out_proj.1')


@pytest.mark.parametrize(('width', 'num_heads', 'num_layers', 'texts', 'tokens'), [
    (16, 4, 3, 5, 7), (16, 1, 1, 5, 7), (24, 2, 2, 1, 1), (8, 8, 0, 3, 2)])
def test_equals_the_published_decoder(width: int, num_heads: int, num_layers: int, texts: int,
                                      tokens: int) -> None:
    decoder = randomised(embed_dim=12, width=width, num_heads=num_heads, num_layers=num_layers)
    with torch.no_grad():
        text, visual = inputs(texts, tokens)
        ours = decoder(text, visual)
        theirs = published(decoder, text, visual, num_heads)
    assert ours.shape == (2, texts, 12)
    assert (ours - theirs).norm() < 1e-6 * theirs.norm()


def test_published_sizes_are_the_default() -> None:
    decoder = MODELS.build(dict(type='ContextDecoder', embed_dim=1024))
    assert len(decoder.layers) == 3
    assert decoder.layers[0].self_attn.num_heads == 4
    assert decoder.memory_proj[1].weight.shape == (256, 1024)
    assert decoder.layers[0].mlp[0].weight.shape == (1024, 256)
    assert {module.p for module in decoder.modules() if isinstance(module, nn.Dropout)} == {0.1}


def test_dropout_in_training_only() -> None:
    decoder = randomised(embed_dim=12, width=16, dropout=0.5)
    text, visual = inputs()
    expected = decoder(text, visual)
    assert torch.equal(decoder(text, visual), expected)
    torch.manual_seed(0)
    first, second = (decoder.train()(text, visual) for _ in range(2))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, expected)
    for module in decoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(decoder(text, visual), expected)


@pytest.mark.parametrize(('dropout', 'last'), [
    ('self_attn.dropout', 'self_attn.proj'), ('cross_attn.dropout', 'cross_attn.proj'),
    ('dropout', 'mlp.3')])
def test_dropout_falls_on_branches(dropout: str, last: str) -> None:
    """A dropout of 1 has the effect of a branch whose last projection is zero."""
    layer = randomised(embed_dim=12, width=16, num_layers=1, dropout=0.0).layers[0]
    x, memory = inputs(channels=16)
    layer.get_submodule(dropout).p = 1.0
    dropped = layer.train()(x, memory)
    for parameter in layer.get_submodule(last).parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(layer.eval()(x, memory), dropped)


def test_init_weights() -> None:
    torch.manual_seed(0)
    decoder = ContextDecoder(embed_dim=96, width=64)
    decoder.init_weights()
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.06), name
            assert abs(module.weight.mean().item()) < 0.002, name
            assert module.bias is None or not module.bias.any(), name
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
    attentions = [module for module in decoder.modules() if isinstance(module, Attention)]
    assert len(attentions) == 6
    for attention in attentions:
        assert [layer.bias is None for layer in (
            attention.q_proj, attention.k_proj, attention.v_proj, attention.proj)] == [
                True, True, True, False]


def test_gradient_reaches_every_parameter() -> None:
    decoder = ContextDecoder(embed_dim=12, width=16).double().train()
    decoder(*inputs()).square().mean().backward()
    assert [name for name, parameter in decoder.named_parameters()
            if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(width=16, num_heads=3), ValueError, 'width=16 is no multiple of num_heads=3'),
    (dict(transformer_width=16), TypeError, 'transformer_width'),
])
def test_refusals(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ContextDecoder(embed_dim=12, **arguments)
