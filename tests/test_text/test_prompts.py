"""The prompts: templates and learned contexts against encode_text, options, embeddings in files."""

import os
import pickle
import re
from copy import deepcopy

from denseclip_mm.text import CLIPTextTower, LearnedContext, TemplatePrompt, TextEmbeddings

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

NAMES = ['sky', 'pool table', 'cat', 'pool']


@pytest.fixture
def tower(tiny_vit) -> CLIPTextTower:
    torch.manual_seed(0)
    return CLIPTextTower(model=tiny_vit)


def encode(clip: open_clip.CLIP, texts: list[str]) -> Tensor:
    return clip.encode_text(open_clip.SimpleTokenizer()(texts))


def embed(prompt, tower: CLIPTextTower, names: list[str] = NAMES) -> Tensor:
    return prompt(tower, prompt.lay_out(tower, names))


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize('templates', [
    'a photo of a {}.',
    ['{}'],
    ['a photo of a {}.', 'a photo of the large {}.', '{} in the scene'],
])
def test_templates_as_clip_ensembles_them(pair, templates):
    clip, tower = pair
    prompt = TemplatePrompt(text_encoder=tower, texts=NAMES, templates=templates)
    rows = []
    for name in NAMES:
        texts = [template.replace('{}', name) for template in
                 ([templates] if isinstance(templates, str) else templates)]
        rows.append(F.normalize(F.normalize(encode(clip, texts), dim=-1).mean(0), dim=0))
    actual = embed(prompt, tower)
    torch.testing.assert_close(actual, torch.stack(rows)[None], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(actual.norm(dim=-1), torch.ones(1, len(NAMES)))
    assert not prompt.state_dict()
    assert not prompt.class_specific


@pytest.mark.parametrize(('name', 'count'), [('openai_imagenet', 80), ('simple_imagenet', 7)])
def test_lists_of_templates_are_open_clips(pair, name, count):
    clip, tower = pair
    prompt = TemplatePrompt(text_encoder=tower, texts=['cat'], templates=name)
    assert len(prompt.templates) == count
    lists = dict(openai_imagenet=open_clip.OPENAI_IMAGENET_TEMPLATES,
                 simple_imagenet=open_clip.SIMPLE_IMAGENET_TEMPLATES)
    rows = F.normalize(encode(clip, [template('cat') for template in lists[name]]), dim=-1)
    expected = F.normalize(rows.mean(0), dim=0)[None, None]
    torch.testing.assert_close(embed(prompt, tower, ['cat']), expected, rtol=1e-5, atol=1e-6)


def test_template_replaces_its_braces_only(pair):
    clip, tower = pair
    prompt = TemplatePrompt(text_encoder=tower, texts=['{0}'], templates='{} of 50% {x}')
    expected = F.normalize(encode(clip, ['{0} of 50% {x}']), dim=-1)
    torch.testing.assert_close(embed(prompt, tower, ['{0}'])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('templates', 'named'), [
    ([], '[]'),
    ('a photo', "['a photo']"),
    (['a {}', 'a {} of {}', ''], "['a {} of {}', '']"),
    ('a {0}', "['a {0}']"),
])
def test_wrong_templates(tower, templates, named):
    with pytest.raises(ValueError, match=re.escape(f'class name goes, got {named}')):
        TemplatePrompt(text_encoder=tower, texts=NAMES, templates=templates)


# --- learned contexts ----------------------------------------------------------------------------


@pytest.mark.parametrize(('options', 'message'), [
    (dict(class_position='End'), "'end', 'middle' or 'front', got 'End'"),
    (dict(num_context=0), 'num_context=0 .*at least one context is needed'),
    (dict(num_context=-1), 'num_context=-1 .*at least one context is needed'),
    (dict(init_words=''), 'num_context=0 .*at least one context is needed'),
    (dict(init_words='a photo of a', num_context=8),
     "num_context=8 .*init_words='a photo of a', which are 4 tokens; leave num_context out"),
    (dict(init_words='a photo of a', num_context=0), 'which are 4 tokens'),
    (dict(std=-0.02), 'std=-0.02 is no standard deviation of contexts, which is over 0'),
    (dict(std=0.0), 'std=0.0 is no standard deviation'),
])
def test_wrong_context_options(tower, options, message):
    with pytest.raises(ValueError, match=message):
        LearnedContext(text_encoder=tower, texts=NAMES, **options)


@pytest.mark.parametrize(('prompt', 'typo'), [
    (LearnedContext, 'num_contexts'), (LearnedContext, 'csc'), (TemplatePrompt, 'template'),
    (TextEmbeddings, 'file')])
def test_keyword_typo(tower, prompt, typo):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{typo}'"):
        prompt(text_encoder=tower, texts=NAMES, **{typo: 8})


@pytest.mark.parametrize(('options', 'shape'), [
    (dict(), (8, 32)),
    (dict(num_context=3), (3, 32)),
    (dict(init_words='a photo of a'), (4, 32)),
    (dict(init_words='a photo of a', num_context=4), (4, 32)),
    (dict(num_context=3, class_specific=True), (len(NAMES), 3, 32)),
])
def test_contexts_are_all_that_a_checkpoint_carries(tower, options, shape):
    prompt = LearnedContext(text_encoder=tower, texts=NAMES, **options)
    assert {key: tuple(value.shape) for key, value in prompt.state_dict().items()} == {
        'contexts': shape}
    assert prompt.contexts.requires_grad
    assert prompt.class_specific == options.get('class_specific', False)
    assert embed(prompt, tower).shape == (1, len(NAMES), tower.embed_dim)


@pytest.mark.parametrize('class_specific', [False, True])
@pytest.mark.parametrize(('full_stop', 'template'), [
    (False, 'a photo of a {}'), (True, 'a photo of a {}.')])
def test_contexts_that_start_from_words(pair, class_specific, full_stop, template):
    clip, tower = pair
    prompt = LearnedContext(text_encoder=tower, texts=NAMES, init_words='a photo of a',
                            class_specific=class_specific, full_stop=full_stop)
    assert not torch.equal(embed(prompt, tower)[0], encode(clip, NAMES))
    prompt.start_from_words(tower)
    ids = [320, 1125, 539, 320]  # 'a photo of a' in CLIP's vocabulary
    rows = clip.token_embedding.weight[ids]
    for contexts in (prompt.contexts if class_specific else prompt.contexts[None]):
        assert torch.equal(contexts, rows)
    expected = encode(clip, [template.replace('{}', name) for name in NAMES])
    torch.testing.assert_close(embed(prompt, tower)[0], expected, rtol=1e-5, atol=1e-6)


def test_words_around_the_name(pair):
    clip, tower = pair
    prompt = LearnedContext(text_encoder=tower, texts=['cat'], init_words='a photo of a',
                            class_position='middle', full_stop=True)
    prompt.start_from_words(tower)
    expected = encode(clip, ['a photo cat of a.'])
    torch.testing.assert_close(embed(prompt, tower, ['cat'])[0], expected, rtol=1e-5, atol=1e-6)


def test_without_words_nothing_is_overwritten(tower):
    prompt = LearnedContext(text_encoder=tower, texts=NAMES)
    before = prompt.contexts.detach().clone()
    prompt.start_from_words(tower)
    assert torch.equal(prompt.contexts, before)


@pytest.mark.parametrize(('options', 'std'), [(dict(), 1.0), (dict(std=0.02), 0.02)])
def test_contexts_start_truncated_normal(tower, options, std):
    torch.manual_seed(0)
    contexts = LearnedContext(text_encoder=tower, texts=NAMES, num_context=4000,
                              **options).contexts.detach() / std
    assert contexts.abs().max() <= 2
    assert contexts.abs().max() > 1.99
    # A standard normal cut at 2: variance 1 - 2 * 2 * pdf(2) / (2 * cdf(2) - 1) = 0.7737.
    assert contexts.mean().abs() < 0.01
    assert contexts.square().mean().item() == pytest.approx(0.7737, abs=0.01)


@pytest.mark.parametrize(('prompt', 'options', 'count', 'named'), [
    (LearnedContext, dict(), 68, "'{}' with 8 contexts"),
    (LearnedContext, dict(init_words='a photo of a', full_stop=True), 71, "'{}' with 4 contexts"),
    (TemplatePrompt, dict(templates=['{}', 'a photo of a {}.']), 71, "'a photo of a {}.'"),
])
def test_name_too_long_is_named(tower, prompt, options, count, named):
    """One token too many is refused, one less is laid out."""
    fits = ' '.join(['pool'] * (count - 1))
    too_long = f'{fits} cat'
    prompt = prompt(text_encoder=tower, texts=['sky', too_long], **options)
    message = f'{named.replace("{}", too_long)} has 78 tokens, but the text tower takes 77'
    with pytest.raises(ValueError, match=re.escape(message)):
        prompt.lay_out(tower, ['sky', too_long])
    assert prompt(tower, prompt.lay_out(tower, ['sky', fits])).isfinite().all()


# --- embeddings from a file ----------------------------------------------------------------------


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        """What pickle calls, with which arguments."""
        return os.mkdir, (str(self.folder), )


def save(path, rows) -> str:
    if path.suffix == '.npy':
        np.save(path, rows.numpy() if isinstance(rows, Tensor) else rows, allow_pickle=True)
    else:
        torch.save(rows, path)
    return str(path)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize('name', ['rows.npy', 'rows.pt', 'rows.pth'])
def test_embeddings_of_a_file(tmp_path, name, dtype):
    rows = torch.randn(len(NAMES), 6).to(dtype)
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=save(tmp_path / name, rows))
    assert prompt.embeddings.count_nonzero() == 0  # nothing is read before init_weights
    prompt.init_weights()
    actual = prompt(None, prompt.lay_out(None, NAMES))
    assert actual.dtype == torch.float32
    assert torch.equal(actual, rows.float()[None])
    assert prompt.class_specific


def test_checkpoint_carries_the_embeddings(tmp_path):
    rows = torch.randn(len(NAMES), 6)
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=save(tmp_path / 'rows.npy', rows))
    prompt.init_weights()
    os.remove(tmp_path / 'rows.npy')
    assert list(prompt.state_dict()) == ['embeddings']
    assert not list(prompt.parameters())
    other = TextEmbeddings(embed_dim=6, texts=NAMES)
    other.init_weights()
    other.load_state_dict(prompt.state_dict())
    assert torch.equal(other(None, other.lay_out(None, NAMES)), rows[None])


@pytest.mark.parametrize(('name', 'rows', 'message'), [
    ('rows.npy', torch.zeros(3, 6), r'holds \(3, 6\), but .* need \(4, 6\)'),
    ('rows.pt', torch.zeros(4, 7), r'holds \(4, 7\), but .* need \(4, 6\)'),
    ('rows.npy', torch.zeros(6, 4), r'holds \(6, 4\)'),
    ('rows.npy', torch.zeros(24), r'holds \(24,\)'),
    ('rows.pt', dict(embeddings=torch.zeros(4, 6)), 'holds dict'),
    ('rows.pt', [1.0] * 24, 'holds list'),
    ('rows.npy', torch.full((4, 6), float('nan')), 'not finite'),
    ('rows.pt', torch.eye(4, 6) / 0, 'not finite'),
    ('rows.npy', torch.ones(4, 6, dtype=torch.int64), 'embeddings is int64, not float32'),
    ('rows.pt', torch.ones(4, 6, dtype=torch.complex64), 'embeddings is complex64, not float32'),
    ('rows.npy', np.array([['a'] * 6] * 4, dtype=object),
     'rows.npy is no file of text embeddings: it is damaged, of'),
])
def test_files_that_do_not_fit(tmp_path, name, rows, message):
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=save(tmp_path / name, rows))
    with pytest.raises(ValueError, match=message):
        prompt.init_weights()
    assert prompt.embeddings.count_nonzero() == 0


def test_embeddings_that_were_saved_with_a_gradient(tmp_path):
    """The model would not be copied otherwise."""
    torch.save(torch.ones(4, 6, requires_grad=True), tmp_path / 'rows.pt')
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=str(tmp_path / 'rows.pt'))
    prompt.init_weights()
    assert torch.equal(deepcopy(prompt).embeddings, torch.ones(4, 6))


def test_missing_file(tmp_path):
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=str(tmp_path / 'none.npy'))
    with pytest.raises(FileNotFoundError, match=r"is no file of text embeddings '.*none\.npy'"):
        prompt.init_weights()


@pytest.mark.parametrize('name', ['rows.npy', 'rows.pt'])
def test_code_in_a_file_is_not_run(tmp_path, name):
    made = tmp_path / 'made'
    payload = Payload(made)
    path = save(tmp_path / name, np.array([payload]) if name == 'rows.npy' else payload)
    prompt = TextEmbeddings(embed_dim=6, texts=NAMES, path=path)
    with pytest.raises(ValueError, match='run code when it is loaded, so it was not'):
        prompt.init_weights()
    assert not made.exists()
    pickle.loads(pickle.dumps(payload))  # the payload works where pickles are trusted
    assert made.exists()


def test_embeddings_take_no_text_tower(tower):
    with pytest.raises(ValueError, match='takes no text tower; set text_encoder=None'):
        TextEmbeddings(embed_dim=6, texts=NAMES, text_encoder=tower)
