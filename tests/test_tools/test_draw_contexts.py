"""The nearest tokens of learned contexts, as numbers, as a table and as a figure."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from denseclip_mm import CLIPTextTower, PixelTextNeck
from denseclip_mm.text.nearest import nearest_tokens
from denseclip_mm.text.tokenizers import CLIPTokenizer

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
NAMES = ['cat', 'dog;puppy', 'sky', 'sea']
WORDS = 'a photo of a'
PROMPTS = {
    'unified': dict(type='LearnedContext', num_context=4),
    'class-specific': dict(type='LearnedContext', num_context=4, class_specific=True),
    'several': dict(type='LearnedContext', num_context=4, num_prompts=2),
    'conditional': dict(type='ConditionalContext', num_context=4),
    'discrete': dict(type='DiscreteContext', num_context=4),
    'visual': dict(type='VisualContext', num_context=4, width=8, num_heads=2, num_layers=1),
    'template': dict(type='TemplatePrompt'),
}


@pytest.fixture(scope='module')
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer()


def brute_force(tower: CLIPTextTower, vectors: torch.Tensor) -> np.ndarray:
    """Distances of vectors and tokens, in numpy."""
    table = tower.tower.token_embedding.weight.detach().numpy().astype(np.float64)
    return np.stack([np.sqrt(((table - vector) ** 2).sum(1))
                     for vector in vectors.numpy().astype(np.float64)])


def test_nearest_tokens_are_those_of_all_distances(pair, tokenizer):
    _, tower = pair
    vectors = torch.randn(3, tower.width, generator=torch.Generator().manual_seed(0)) * 0.02
    nearest = nearest_tokens(tower, vectors, 7)
    for row, distances in zip(nearest, brute_force(tower, vectors), strict=True):
        order = np.argsort(distances)[:7]
        assert [token for token, _ in row] == [tokenizer.readable(token) for token in order]
        np.testing.assert_allclose([distance for _, distance in row], distances[order], rtol=1e-5)


def test_a_token_is_nearest_to_itself(pair):
    _, tower = pair
    table = tower.tower.token_embedding.weight
    rows = nearest_tokens(tower, table[tower.tokenize('a photo of a traffic light')], 2)
    assert [row[0] for row in rows] == [
        (word, 0.0) for word in ('a', 'photo', 'of', 'a', 'traffic', 'light')]
    assert all(row[1][1] > 0 for row in rows)


def test_rows_beyond_the_tokenizer_are_no_tokens(build_pair, tiny_vit):
    tiny_vit['text_cfg']['vocab_size'] = 49410
    _, tower = build_pair(tiny_vit)
    vector = tower.tower.token_embedding.weight[[49409]]
    (token, distance), = nearest_tokens(tower, vector, 1)[0]
    distances = brute_force(tower, vector)[0][:49408]
    assert (token, distance) == (tower.tokenizer.readable(int(distances.argmin())),
                                 pytest.approx(distances.min(), rel=1e-5))
    assert distance > 0


@pytest.mark.parametrize('count', [0, -1, 49409])
def test_count_is_checked(pair, count):
    _, tower = pair
    with pytest.raises(ValueError, match=f'cannot list the {count} nearest tokens; give a number '
                                         'from 1 to 49408'):
        nearest_tokens(tower, torch.zeros(1, tower.width), count)


def test_tokens_for_people(tokenizer):
    def of(symbol: str) -> str:
        return tokenizer.readable(tokenizer.encoder[symbol])
    assert of('photo</w>') == 'photo'
    assert of('photo') == 'photo-'
    assert of('<end_of_text>') == '<end_of_text>'
    assert of('é</w>'.encode().decode('latin-1')) == 'é'  # bytes of UTF-8, a letter each
    assert of('Ã</w>') == '<c3>'  # the first byte of é alone
    assert of('Ã') == '<c3>-'
    everything = [tokenizer.readable(token) for token in range(tokenizer.vocab_size)]
    assert all(text and text.isprintable() and '</w>' not in text and '\ufffd' not in text
               for text in everything)


@pytest.fixture
def save(tiny_resnet, tmp_path) -> Callable[[str], PixelTextNeck]:
    """Writes config.py and model.pth of a model with a prompt, and returns its neck.

    The contexts are the tokens of WORDS; class-specific ones in another order for each text.
    """
    def save(name: str) -> PixelTextNeck:
        neck = dict(type='PixelTextNeck', class_names=NAMES, prompt=PROMPTS[name],
                    text_encoder=dict(type='CLIPTextTower', model=tiny_resnet))
        torch.manual_seed(0)
        built = MODELS.build(neck)
        if hasattr(built.prompt, 'contexts'):
            words = built.text_encoder.tower.token_embedding.weight[
                built.text_encoder.tokenize(WORDS)]
            contexts = built.prompt.contexts
            contexts.data = words if contexts.dim() == 2 else torch.stack(
                [words.roll(-index, 0) for index in range(len(contexts))])
        Config(dict(model=dict(type='EncoderDecoder', neck=neck))).dump(tmp_path / 'config.py')
        state = {f'neck.{key}': value for key, value in built.state_dict().items()}
        torch.save(dict(state_dict=dict(state, other=torch.zeros(1))), tmp_path / 'model.pth')
        return built
    return save


@pytest.fixture
def draw(tmp_path, run_tool) -> Callable[..., str]:
    """Calls the tool as a command line would; returns what it printed, or its error."""
    def draw(*words: str) -> str:
        done = run_tool('analysis_tools/draw_contexts', *words, cwd=tmp_path)
        return done.stderr.removesuffix('\n') if done.returncode else done.stdout
    return draw


def table_of(output: str, title: str) -> list[list[tuple[str, str]]]:
    """Tokens and distances of a printed table."""
    rows = output.split(f'contexts of {title}\n')[1].split('\n\n')[0].splitlines()
    assert [row.split()[0] for row in rows] == [f'#{number}' for number in range(1, len(rows) + 1)]
    return [re.findall(r'(\S+) \((\d+\.\d{3})\)', row) for row in rows]


@pytest.mark.parametrize('name', ['unified', 'conditional'])
def test_shared_contexts(name, save, draw, tmp_path):
    neck = save(name)
    output = draw('config.py', 'model.pth', 'out/figure.png', '--top', '3')
    table = table_of(output, 'all classes')
    assert [row[0] for row in table] == [(word, '0.000') for word in WORDS.split()]
    distances = brute_force(neck.text_encoder, neck.prompt.contexts.detach())
    for row, of_row in zip(table, np.sort(distances)[:, :3], strict=True):
        assert [float(distance) for _, distance in row] == pytest.approx(of_row, abs=6e-4)
    assert output.endswith('wrote out/figure.png\n')
    assert cv2.imread(str(tmp_path / 'out/figure.png')).std() > 20


def test_class_specific_contexts(save, draw, tmp_path):
    """Contexts belong to texts: a class with two names has two tables."""
    save('class-specific')
    output = draw('config.py', 'model.pth', 'few.png', '--top', '1', '--classes', 'sea',
                  'dog;puppy')
    titles = re.findall('contexts of (.*)', output)
    assert titles == ['sea', 'dog', 'puppy']
    for title, start in (('sea', 4), ('dog', 1), ('puppy', 2)):
        words = np.roll(WORDS.split(), -start)
        assert table_of(output, title) == [[(word, '0.000')] for word in words]
    few = cv2.imread(str(tmp_path / 'few.png'))
    output = draw('config.py', 'model.pth', 'all.png')
    assert output.startswith('the first 3 of 4 classes; choose others with --classes\n')
    assert re.findall('contexts of (.*)', output) == ['cat', 'dog', 'puppy', 'sky']
    assert cv2.imread(str(tmp_path / 'all.png')).shape[1] > few.shape[1]


def test_each_of_several_prompts_has_a_table(save, draw) -> None:
    save('several')
    output = draw('config.py', 'model.pth', 'x.png', '--top', '1')
    assert re.findall('contexts of (.*)', output) == [
        'all classes, prompt 1', 'all classes, prompt 2']
    for index in range(2):
        words = np.roll(WORDS.split(), -index)
        assert table_of(output, f'all classes, prompt {index + 1}') == [
            [(word, '0.000')] for word in words]


def test_words_are_read(save, draw, tmp_path):
    """What the tower is given, however far the contexts have moved from it."""
    neck = save('discrete')
    neck.prompt.contexts.data *= 3
    torch.save({f'neck.{key}': value for key, value in neck.state_dict().items()},
               tmp_path / 'model.pth')
    table = table_of(draw('config.py', 'model.pth', 'x.png'), f"all classes: '{WORDS} {{}}'")
    assert [row[0] for row in table] == [(word, '0.000') for word in WORDS.split()]


def test_dark_cells_are_near_ones(draw, save, tmp_path):
    """A cell of distance 0 has the darkest blue, the farthest one the lightest."""
    save('unified')
    draw('config.py', 'model.pth', 'figure.png', '--top', '4')
    picture = cv2.imread(str(tmp_path / 'figure.png')).astype(int)[..., ::-1]
    dark = (picture == (8, 48, 107)).all(-1)  # Blues, its last colour
    light = (picture == (247, 251, 255)).all(-1)
    x_of_dark, x_of_light = (np.nonzero(cells.sum(0) > 20)[0] for cells in (dark, light))
    assert dark.sum() > 4 * 2000 and x_of_dark.min() < x_of_light.min()


@pytest.mark.parametrize(('name', 'words', 'message'), [
    ('visual', [], 'config.py has no learned contexts: VisualContext reads its contexts from each '
                   'image and has none of its own; LearnedContext, DiscreteContext and Con'),
    ('template', [], 'config.py has no learned contexts: TemplatePrompt learns nothing'),
    ('unified', ['--classes', 'cat'], 'the classes share their contexts; leave --classes out'),
    ('unified', ['--top', '0'], 'cannot list the 0 nearest tokens'),
    ('class-specific', ['--classes', 'cat', 'car'], "the model has no class 'car'; it has cat, "),
])
def test_refusals(name, words, message, save, draw, tmp_path):
    save(name)
    assert draw('config.py', 'model.pth', 'x.png', *words).startswith(f'error: {message}')
    assert not (tmp_path / 'x.png').exists()


def test_wrong_files(save, draw, tmp_path):
    save('unified')
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.neck = dict(type='FPN', in_channels=[8, 8], out_channels=8, num_outs=2)
    cfg.dump(tmp_path / 'fpn.py')
    del cfg.model['neck']
    cfg.dump(tmp_path / 'bare.py')
    cfg.model.neck = dict(type='PixelTextNeck', class_names=NAMES,
                          prompt=dict(type='TextEmbeddings', embed_dim=24))
    cfg.dump(tmp_path / 'exported.py')
    (tmp_path / 'text.pth').write_text('no weights')
    (tmp_path / 'empty.pth').touch()
    torch.save(torch.zeros(3), tmp_path / 'tensor.pth')
    torch.save(dict(state_dict=dict(weight=torch.zeros(3))), tmp_path / 'other.pth')
    (tmp_path / 'file').touch()
    for words, message in (
            (['no.py', 'model.pth'], "there is no config 'no.py' (looked from"),
            (['config.py', 'no.pth'], "there is no checkpoint 'no.pth' (looked from"),
            (['fpn.py', 'model.pth'], 'fpn.py has no PixelTextNeck (its neck is FPN), so it has'),
            (['bare.py', 'model.pth'], 'bare.py has no PixelTextNeck (its neck is NoneType)'),
            (['exported.py', 'model.pth'], 'exported.py has no text tower, so there are no'),
            (['config.py', 'text.pth'], "text.pth is no checkpoint: it is a text, 'no weights'"),
            (['config.py', 'empty.pth'], 'empty.pth is no checkpoint: it is empty'),
            (['config.py', 'tensor.pth'], 'tensor.pth is no checkpoint: it holds no state dict'),
            (['config.py', 'other.pth'], 'other.pth is no checkpoint of this config: Error(s) in')):
        assert draw(*words, 'x.png').startswith(f'error: {message}')
    assert "Format 'nothing' is not supported" in draw('config.py', 'model.pth', 'x.nothing')
    assert draw('config.py', 'model.pth', 'file/x.png').startswith('error: ')
    assert not list(tmp_path.glob('x.*'))


def test_command_line(save, tmp_path):
    save('unified')
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/analysis_tools/draw_contexts.py', 'config.py', 'model.pth',
         'x.png'],
        cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0 and done.stdout.endswith('wrote x.png\n'), done.stderr[-4000:]
