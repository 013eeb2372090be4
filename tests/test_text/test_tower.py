"""The text tower on trees against open_clip on padded prompts; freezing; what is refused."""

from copy import deepcopy

from denseclip_mm.text import CLIPTextTower, LearnedContext, grow_trees

import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCAB = 49408  # symbols from here on are learned vectors
START, END = 49406, 49407
WORDS = ['sky', 'tree', 'car', 'door', 'sea', 'lion', 'street', 'light', 'crt', 'screen', 'pool',
         'table', 'bed', 'lamp', 'bus', 'ship', 'stairs', 'river', 'bridge', 'book']
# Names that share first words, one of them with 20 tokens.
NAMES = ['sky', 'pool table', 'pool', 'crt screen', 'street light', ' '.join(WORDS)]
# Where contexts c go around the tokens n of a name, half of five being two.
LAYOUTS = {
    'end': lambda c, n: [*c, *n],
    'middle': lambda c, n: [*c[:2], *n, *c[2:]],
    'front': lambda c, n: [*n, *c],
}


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Equal up to a 100,000th of the largest number."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture
def tower(tiny_vit):
    torch.manual_seed(0)
    return CLIPTextTower(model=tiny_vit)


def trees_of(tower: CLIPTextTower, texts: list[str]) -> nn.ModuleList:
    return grow_trees([tower.prompt(tower.tokenize(text)) for text in texts])


def padded(clip: open_clip.CLIP, prompts: list[list[int]], learned: Tensor) -> Tensor:
    """Embed prompts as CoOp and DenseCLIP do: each one padded with zeros to 77 tokens."""
    table = torch.cat([clip.token_embedding.weight.detach(), learned])
    x = torch.stack([F.pad(table[prompt], (0, 0, 0, 77 - len(prompt))) for prompt in prompts])
    causal = torch.full((77, 77), float('-inf')).triu(1)
    x = clip.ln_final(clip.transformer(x + clip.positional_embedding, attn_mask=causal))
    ends = [len(prompt) - 1 for prompt in prompts]
    return x[range(len(prompts)), ends] @ clip.text_projection


# --- equality with open_clip ---------------------------------------------------------------------


@pytest.mark.parametrize('grad', [True, False])
@pytest.mark.parametrize(('quick_gelu', 'text_cfg'), [
    (True, {}),
    (False, {}),
    (True, dict(pool_type='eos', eos_id=END)),
    (False, dict(ls_init_value=0.3, norm_kwargs=dict(eps=1e-3))),
])
def test_texts_embed_as_in_open_clip(build_pair, tiny_vit, quick_gelu, text_cfg, grad):
    tiny_vit['quick_gelu'] = quick_gelu
    tiny_vit['text_cfg'].update(text_cfg)
    clip, tower = build_pair(tiny_vit)
    texts = [' '.join(WORDS[:count]) for count in range(1, 21)] + ['A  Sea Lion.', "car's door", '']
    assert [len(tower.tokenize(text)) for text in texts[:20]] == list(range(1, 21))
    with torch.set_grad_enabled(grad):
        actual = tower(trees_of(tower, texts))
        expected = clip.encode_text(open_clip.SimpleTokenizer()(texts))
    assert_same(actual, expected[None])
    assert torch.pdist(expected).min() > 1e-3


def test_activation_is_the_config_s(build_pair, tiny_vit):
    """The two variants above would agree if neither tower heeded quick_gelu."""
    outputs = []
    for quick_gelu in (True, False):
        tiny_vit['quick_gelu'] = quick_gelu
        _, tower = build_pair(tiny_vit)
        outputs.append(tower(trees_of(tower, NAMES)))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3 * outputs[0].abs().max()


def test_a_model_by_name_has_its_sizes_and_embeds_as_open_clip():
    torch.manual_seed(0)
    tower = CLIPTextTower(model='RN50-quickgelu')
    assert (tower.width, tower.embed_dim) == (512, 1024)
    assert (tower.context_length, tower.vocab_size) == (77, VOCAB)
    texts = NAMES[:3]
    with torch.no_grad():
        expected = tower.tower(open_clip.get_tokenizer('RN50-quickgelu')(texts))
        assert_same(tower(trees_of(tower, texts)), expected[None])


@pytest.mark.parametrize('class_specific', [False, True])
@pytest.mark.parametrize('position', list(LAYOUTS))
def test_learned_vectors_and_their_gradients(pair, position, class_specific):
    clip, tower = pair
    prompt = LearnedContext(text_encoder=tower, texts=NAMES, num_context=5, std=0.1,
                            class_position=position, class_specific=class_specific)
    actual = prompt(tower, prompt.lay_out(tower, NAMES))

    contexts = prompt.contexts.detach().clone().requires_grad_()
    shift = 5 if class_specific else 0
    prompts = [[START, *LAYOUTS[position](list(range(VOCAB + k * shift, VOCAB + k * shift + 5)),
                                          tower.tokenize(name)), END]
               for k, name in enumerate(NAMES)]
    expected = padded(clip, prompts, contexts.flatten(0, -2))
    assert_same(actual, expected[None])

    weight = torch.randn(expected.shape)
    (actual[0] * weight).sum().backward()
    (expected * weight).sum().backward()
    assert (contexts.grad.abs().amax(-1) > 1e-3).all()
    assert_same(prompt.contexts.grad, contexts.grad)


def test_vectors_of_each_image(pair):
    clip, tower = pair
    prompts = [[START, VOCAB, VOCAB + 1, VOCAB + 2, *tower.tokenize(name), END] for name in NAMES]
    learned = torch.randn(2, 3, tower.width).mul(0.1).requires_grad_()
    own = learned.detach().clone().requires_grad_()
    actual = tower(grow_trees(prompts), learned)
    expected = torch.stack([padded(clip, prompts, vectors) for vectors in own])
    assert_same(actual, expected)
    weight = torch.randn(expected.shape)
    (actual * weight).sum().backward()
    (expected * weight).sum().backward()
    assert_same(learned.grad, own.grad)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


# --- frozen --------------------------------------------------------------------------------------


def test_training_moves_the_vectors_and_never_the_tower(tower):
    prompt = LearnedContext(text_encoder=tower, texts=NAMES, num_context=3)
    model = nn.ModuleDict(dict(tower=tower, prompt=prompt)).train()
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert prompt.training
    assert not any(module.training for module in tower.modules())
    tower.train(True)
    assert not any(module.training for module in tower.modules())

    before = deepcopy(tower.state_dict())
    start = prompt.contexts.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    trees = prompt.lay_out(tower, NAMES)
    for _ in range(2):
        optimizer.zero_grad()
        prompt(tower, trees).square().sum().backward()
        optimizer.step()
    assert (prompt.contexts - start).abs().min() > 0
    assert all(parameter.grad is None for parameter in tower.parameters())
    for key, value in tower.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_loading_weights_leaves_it_frozen(pair):
    _, tower = pair
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not any(module.training for module in tower.modules())


# --- positions -----------------------------------------------------------------------------------


def shortened(tower: CLIPTextTower, positions: int) -> dict[str, Tensor]:
    """The tower's state dict with its first positions only, as published DenseCLIP weights."""
    state = deepcopy(tower.state_dict())
    state['tower.positional_embedding'] = state['tower.positional_embedding'][:positions]
    return state


def test_checkpoint_with_13_positions(tower, tiny_vit):
    fits, too_long = ' '.join(WORDS[:11]), ' '.join(WORDS[:12])
    other = CLIPTextTower(model=tiny_vit)
    whole = nn.ModuleDict(dict(text_encoder=other))  # keys with a prefix, as in a segmentor
    whole.load_state_dict({f'text_encoder.{key}': value
                           for key, value in shortened(tower, 13).items()})
    assert other.context_length == 13
    assert not other.tower.positional_embedding.requires_grad
    assert torch.equal(other(trees_of(other, ['sky', fits])), tower(trees_of(tower, ['sky', fits])))
    with pytest.raises(ValueError, match=r'14 tokens.*takes 13.*first 13 of CLIP.*--clip'):
        other(trees_of(other, ['sky', too_long]))

    other.load_state_dict(tower.state_dict())
    assert other.context_length == 77
    assert torch.equal(other(trees_of(other, [too_long])), tower(trees_of(tower, [too_long])))


@pytest.mark.parametrize('table', [torch.zeros(78, 32), torch.zeros(13, 31)])
def test_position_table_of_another_tower_is_refused(tower, table):
    before = deepcopy(tower.state_dict())
    with pytest.raises(RuntimeError, match=r'size mismatch for tower\.positional_embedding'):
        tower.load_state_dict({**before, 'tower.positional_embedding': table})
    assert torch.equal(tower.tower.positional_embedding, before['tower.positional_embedding'])


@pytest.mark.parametrize('positions', [77, 16])
def test_prompt_longer_than_the_model(tiny_vit, positions):
    tiny_vit['text_cfg']['context_length'] = positions
    tower = CLIPTextTower(model=tiny_vit)
    assert tower.context_length == positions
    longest = 'sky ' * (positions - 2)
    assert tower(trees_of(tower, [longest])).isfinite().all()
    with pytest.raises(ValueError, match=f'{positions + 1} tokens, but the text tower takes '
                                         f'{positions}; shorten the names') as caught:
        tower(trees_of(tower, [longest + 'sky']))
    assert '--clip' not in str(caught.value)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(('model', 'reason'), [
    ('coca_ViT-B-32', r'appends a class token \(CoCa\)'),
    ('roberta-ViT-B-32', "is the Hugging Face model 'roberta-base'"),
    ('nllb-clip-base-siglip', "is the Hugging Face model 'facebook/nllb-200-distilled-600M'"),
])
def test_models_without_a_transformer_of_open_clip_are_refused_by_name(model, reason):
    with pytest.raises(ValueError, match=f"text tower of {model!r} {reason}.*'TextEmbeddings'"):
        CLIPTextTower(model=model)


@pytest.mark.parametrize(('text_cfg', 'reason'), [
    (dict(embed_cls=True), 'class token'),
    (dict(pool_type='none'), "pool_type='none'"),
    (dict(tokenizer_mode='clips'), "tokenizer_mode='clips'"),
    (dict(hf_model_name='bert-base'), 'Hugging Face model'),
])
def test_configs_without_a_transformer_of_open_clip_are_refused(tiny_vit, text_cfg, reason):
    tiny_vit['text_cfg'].update(text_cfg)
    with pytest.raises(ValueError, match=reason):
        CLIPTextTower(model=tiny_vit)


def test_tokenizer_of_another_tower(tiny_vit):
    tiny_vit['text_cfg']['vocab_size'] = 1000
    with pytest.raises(ValueError, match='embeds 1000 tokens, but its tokenizer makes 49408'):
        CLIPTextTower(model=tiny_vit).tokenize('sky')
    with pytest.raises(ValueError, match="tokenizer='here', but this text tower has CLIP's own"):
        CLIPTextTower(model=tiny_vit, tokenizer='here')


@pytest.mark.parametrize(('model', 'message'), [
    ('RN50-quickgeluu', "no model 'RN50-quickgeluu'; similar names: .*RN50-quickgelu,"),
    ('vit-b-16', "no model 'vit-b-16'; similar names: .*ViT-B-16,"),
    ('nothing-like-it', r'list_models\(\)'),
])
def test_unknown_model_name_lists_similar_ones(model, message):
    with pytest.raises(ValueError, match=message):
        CLIPTextTower(model=model)


@pytest.mark.parametrize('key', ['embed_dim', 'vision_cfg', 'text_cfg'])
def test_config_that_lacks_a_key(tiny_vit, key):
    del tiny_vit[key]
    with pytest.raises(ValueError, match=rf"lacks \['{key}'\]"):
        CLIPTextTower(model=tiny_vit)
