"""The documentation says what the code does: options, files, commands, figures."""

import inspect
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import denseclip_mm
from denseclip_mm import _REGISTERED
from denseclip_mm.__main__ import COMMANDS

import pytest
from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
INJECTED = {'self', 'texts', 'context', 'kwargs', 'feature_strides'}  # by neck, head, mmseg
CLASSES = [cls for classes in _REGISTERED.values() for cls in classes]


def python_of(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r'^```python\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('cls', CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_is_documented(cls: type) -> None:
    page = (ROOT / 'docs/configs.md').read_text()
    assert f'`{cls.__name__}`' in page
    if getattr(cls.__init__, '__module__', '').startswith('mmengine'):  # options of its parent
        assert f"mmengine's `{cls.__base__.__name__}`" in page
        return
    for name, parameter in inspect.signature(cls).parameters.items():
        given_by_neck = name == 'text_encoder' and cls is not denseclip_mm.models.neck.PixelTextNeck
        if name in INJECTED or given_by_neck or parameter.kind in (
                parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = '' if parameter.default is parameter.empty else f' `{parameter.default!r}`'
        assert f'| `{name}` |{default} |' in page, f'{cls.__name__}.{name} ={default}'


def test_no_option_is_made_up() -> None:
    options = {name for cls in CLASSES for name in inspect.signature(cls).parameters}
    named = re.findall(r'^\| `(\w+)` \|', (ROOT / 'docs/configs.md').read_text(), re.MULTILINE)
    assert set(named) <= options


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r'(?:\]\(|^\[\w+\]: )([^)#\s]+)', text, re.MULTILINE):
        if '://' not in target:
            assert (page.parent / target).exists(), target
    folders = r'(?<![\w/])((?:configs|tools|denseclip_mm|tests|docs)/[\w/]+\.\w+)'
    for named in re.findall(folders, text):
        of_the_reader = Path(named).stem in ('grounds', 'grounds_r50', 'mine',
                                               'task_residual_scenes')
        assert of_the_reader or (ROOT / named).exists(), named


@pytest.fixture(scope='module')
def options_of(succeed: Callable[..., str]) -> Callable[[str], str]:
    """Says what ``--help`` says."""
    return cache(lambda tool: succeed(tool, '--help', cwd=ROOT))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_have_their_options(page: Path, options_of: Callable[[str], str]) -> None:
    words = r'((?:[^`#\n\\]|\\\n)*)'
    text = page.read_text()
    commands = re.findall(rf'python tools/([\w/]+)\.py{words}', text)
    commands += [(COMMANDS[name][0].removesuffix('.py'), words)
                 for name, words in re.findall(rf'\bdenseclip-mm (\w+)\b{words}', text)]
    for tool, words in commands:
        for option in re.findall(r'(?<=\s)--[\w-]+', words):
            assert option in options_of(tool), f'{tool} {option}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    """Parts of configs, too: what is left out is an ellipsis where Python takes one."""
    for block in python_of(page):
        compile(block, page.name, 'exec')


def test_the_readme_runs(monkeypatch: pytest.MonkeyPatch,
                         capsys: pytest.CaptureFixture) -> None:
    """In a clone and without a download; the scene is of water and wood, with a purple star."""
    monkeypatch.chdir(ROOT)
    script, = (block for block in python_of(ROOT / 'README.md') if 'Predictor' in block)
    found = {}
    exec(script, found)
    prediction = found['prediction']
    shares = prediction.shares()
    assert capsys.readouterr().out == f'{prediction.class_names} {shares}\n'
    assert prediction.class_names == ['purple star', 'water;sea', 'wooden floor', 'other']
    assert shares[1] > shares[2] > shares[0] > 0


def test_the_types_of_the_readme_are_there() -> None:
    for block in python_of(ROOT / 'README.md'):
        for name in re.findall(r"\btype='(\w+)'", block):
            assert MODELS.get(name), name


def test_the_index_is_grouped_like_the_menu() -> None:
    """docs/README.md has the pages of mkdocs.yml, in their order; the API's have their own."""
    menu = (ROOT / 'mkdocs.yml').read_text().split('\nnav:\n')[1]
    groups = re.split(r'^  - (\w+):$', menu, flags=re.MULTILINE)[1:]
    index = re.split(r'^## (\w+)$', (ROOT / 'docs/README.md').read_text(), flags=re.MULTILINE)[1:]
    assert index[::2] == groups[::2]
    for title, pages, linked in zip(groups[::2], groups[1::2], index[1::2], strict=True):
        named = re.findall(r'- ([\w/]+\.md)$', pages, re.MULTILINE)
        shown = re.findall(r'^(?:\| )?\[.*?\]\(([\w/]+\.md)\)', linked, re.MULTILINE)
        assert shown == (named if title != 'API' else ['api/README.md'])


def test_the_model_zoo_has_every_config() -> None:
    page = (ROOT / 'docs/model_zoo.md').read_text()
    known = {name for start, names, end in re.findall(r'`(configs/[\w/]+)\{([\w,]+)\}(\.py)`', page)
             for name in (f'{start}{each}{end}' for each in names.split(','))}
    known |= set(re.findall(r'`(configs/[\w/*]+\.py)`', page))
    for path in (ROOT / 'configs').rglob('*.py'):
        name = path.relative_to(ROOT).as_posix()
        if '_base_' not in path.parts:
            assert name in known or f'configs/{path.parent.name}/*.py' in known, name


def test_the_api_has_every_module() -> None:
    package = ROOT / 'denseclip_mm'
    modules = {'.'.join(path.relative_to(ROOT).with_suffix('').parts)
               for path in package.rglob('*.py') if path.stem not in ('__init__', 'version')}
    pages = '\n'.join(page.read_text() for page in (ROOT / 'docs/api').glob('*.md'))
    shown = re.findall(r'^::: (\S+)$', pages, re.MULTILINE)
    assert sorted(shown) == sorted(modules | {'denseclip_mm.models'})


@pytest.mark.parametrize(('heading', 'table'), [
    ('| room | imports from |', 'BELOW'),
    ('| room in `apis/` | what is in it | imports from, in `apis/` |', 'BELOW_IN_APIS')])
def test_who_imports_whom_is_as_the_page_says(heading: str, table: str) -> None:
    page = (ROOT / 'docs/architecture.md').read_text()
    _, *rows = page.split(f'{heading}\n')[1].split('\n\n')[0].splitlines()
    said = {}
    for row in rows:
        rooms, *_, below = row.strip('| ').split(' | ')
        said |= {room: sorted(re.findall(r'`(\w+)`', below))
                 for room in re.findall(r'`(\w+)', rooms)}
    below = runpy.run_path(str(ROOT / 'tests/test_house.py'))[table]
    assert said == {room: sorted(others) for room, others in below.items() if room != 'version'}


@pytest.mark.one_stack
def test_the_tutorial(tmp_path: Path) -> None:
    """From start to finish; what it prints and writes."""
    done = subprocess.run([sys.executable, ROOT / 'docs/tutorial.py'], cwd=tmp_path, text=True,
                          capture_output=True, env=os.environ)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    zero_shot = re.search(r"zero-shot: \{'(\w+)': '(\d+)%'", output)
    assert zero_shot[1] == 'snow' and int(zero_shot[2]) > 40  # it is on snow and sand
    assert 20 < float(re.search(r'mIoU after 60 iterations: (\S+)', output)[1]) < 100
    assert 'decode head: 30 classes\n' in output
    assert "score map: ['grass', 'purple ring', 'snow;ice', 'water;sea']" in output
    assert 'the same labels: True' in output
    out = tmp_path / 'work_dirs/tutorial'
    assert {path.name for path in out.glob('*.png')} == {
        'scene.png', 'zero_shot.png', 'score_maps.png'}
    assert len(list(out.rglob('score_maps_val_*.png'))) == 2
