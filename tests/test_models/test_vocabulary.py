"""Class names from aliases, files and lists; what is refused, and how."""

import os
import re
import sys
from pathlib import Path

from denseclip_mm.models.class_order import another_order
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names, split_synonyms

import pytest
from mmengine import Config
from mmseg.datasets import CityscapesDataset, COCOStuffDataset, PascalVOCDataset

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
COUNTS = dict(ade20k=150, cityscapes=19, voc=21, cocostuff164k=171)


@pytest.mark.parametrize(('alias', 'count'), COUNTS.items())
def test_aliases_of_the_configs(alias: str, count: int) -> None:
    names = read_class_names(alias)
    assert len(names) == count
    assert all(name == name.strip() != '' for name in names)
    assert all(len(split_synonyms(name)) == 1 for name in names)


@pytest.mark.parametrize(('alias', 'dataset'), [
    ('cityscapes', CityscapesDataset), ('voc', PascalVOCDataset),
    ('pascal_voc', PascalVOCDataset), ('cocostuff164k', COCOStuffDataset)])
def test_alias_gives_the_names_of_the_dataset_in_its_order(alias: str, dataset: type) -> None:
    assert tuple(read_class_names(alias)) == dataset.METAINFO['classes']


def test_names_of_the_alias_are_trimmed() -> None:
    """ADE20K's list in mmseg has 'bed ', which is another text to a tokenizer."""
    assert read_class_names('ade20k')[7] == 'bed'


def test_coco_is_mmdet_s_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    coco = pytest.importorskip('mmdet.datasets').CocoDataset
    assert tuple(read_class_names('coco')) == coco.METAINFO['classes']
    assert parse_class_names('coco') == 'coco'
    monkeypatch.setitem(sys.modules, 'mmdet.evaluation', None)
    with pytest.raises(ValueError, match=r"mmdet's, which is not installed: pip install '.*mmdet"):
        read_class_names('coco')


def test_every_alias_in_the_configs_is_known() -> None:
    texts = [path.read_text() for path in CONFIGS.rglob('*.py')]
    aliases = {alias for text in texts for alias in re.findall(r"class_names='([^']+)'", text)}
    assert aliases >= COUNTS.keys()
    for alias in aliases:
        assert read_class_names(alias)


@pytest.mark.parametrize('source', [
    ['cat', 'dog; hound', 'traffic light'],
    (' cat', 'dog; hound ', 'traffic light\t'),
    Config(dict(names=['cat', 'dog; hound', 'traffic light'])).names,
])
def test_lists(source: list | tuple) -> None:
    assert read_class_names(source) == ['cat', 'dog; hound', 'traffic light']


@pytest.mark.parametrize('text', ['cat\ndog;hound\ncafé\n', 'cat \r\n dog;hound\r\ncafé'])
def test_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'names.txt'
    path.write_bytes(text.encode())
    assert read_class_names(str(path)) == ['cat', 'dog;hound', 'café']
    monkeypatch.setenv('HOME', str(tmp_path))
    assert read_class_names('~/names.txt') == ['cat', 'dog;hound', 'café']


@pytest.mark.parametrize(('name', 'texts'), [
    ('cat', ['cat']), ('dog; hound;puppy ', ['dog', 'hound', 'puppy']), ('dog;', ['dog', ''])])
def test_split_synonyms(name: str, texts: list[str]) -> None:
    assert split_synonyms(name) == texts


@pytest.mark.parametrize(('names', 'message'), [
    ([], 'class_names holds no names'),
    ([''], r"name 0 \(''\) is empty or has an empty synonym"),
    (['cat', ' '], r"name 1 \(''\) is empty"),
    (['cat', 'dog;'], r"name 1 \('dog;'\) is empty or has an empty synonym"),
    (['cat', 'dog; ;hound'], r'name 1 .*empty synonym'),
    (['cat', 'dog', 'cat'], "'cat' stands twice, as class 0 and as class 2"),
    (['cat', 'dog', ' Cat '], "'Cat' stands twice, as class 0 and as class 2"),
    (['cat;kitten', 'dog', 'KITTEN'], "'KITTEN' stands twice, as class 0 and as class 2"),
    (['cat', 'dog;dog'], r"name 1 \('dog;dog'\) holds 'dog' twice"),
    (['cat', 'dog; Dog'], r"name 1 \('dog; Dog'\) holds 'Dog' twice"),
    (['a', 'b;b'], r"name 1 \('b;b'\) holds 'b' twice"),  # Python keeps one string for a letter
    (['a', 'b', 'a'], "'a' stands twice, as class 0 and as class 2"),
    (['road - side', 'road-side'], "'road-side' is 'road - side' once more, as class 0 and as"),
    (['cat', 'traffic light', 'Traffic__light'], "'Traffic light' stands twice, as class 1"),
    (['cat', '\u200b'], r"name 1 \(''\) is empty"),
    (['cat', '\u3164'], r"name 1 \(''\) is empty"),  # Hangul's filler, a letter to Unicode
    (['cat', '\u2800'], r"name 1 \(''\) is empty"),  # Braille without a dot, a symbol
    (['cat', 'dog;\ufe0f\U000e0041'], r"name 1 \('dog;'\) is empty or has an empty synonym"),
    (['cat', '\ue000'], r"name 1 \('\\ue000'\) is empty"),  # private use
    (['cat', 'dog;&nbsp'], r"name 1 \('dog;&nbsp'\) is empty or has an empty synonym"),
    (['cat', 'cat\u3164'], "'cat' stands twice, as class 0 and as class 1"),
    (['building, edifice', 'sky'], r"name 0 \('building, edifice'\) has a comma; a semicolon"),
    (['sky', '1:wall'], r"name 1 \('1:wall'\) starts with a number; such lists are read from"),
])
@pytest.mark.parametrize('as_file', [False, True])
def test_faulty_names(names: list[str], message: str, as_file: bool, tmp_path: Path) -> None:
    source = names
    if as_file:
        source = str(tmp_path / 'names.txt')
        Path(source).write_text('\n'.join([*names, '']) if names else '')
        message = message.replace('class_names holds', 'class_names=.*names.txt. holds')
    with pytest.raises(ValueError, match=message):
        read_class_names(source)


@pytest.mark.parametrize('name', ['x' * 10**5, f'cat;{"etaoin" * 200}', 'a cat ' * 200])
def test_names_of_very_many_characters(name: str) -> None:
    """Before the tokenizer takes minutes for them."""
    with pytest.raises(ValueError, match=r'name 1 .* has more than 1000 characters') as error:
        read_class_names(['dog', name])
    assert len(str(error.value)) < 300
    assert len(parse_class_names(f'a{" " * 10**5}b,\n\n{"c " * 10**5}')) == 2


@pytest.mark.parametrize('unknown', ['ade21k', 'no/such/file.txt', '.', ''])
def test_neither_alias_nor_file(unknown: str) -> None:
    with pytest.raises(ValueError, match=f"^class_names='{re.escape(unknown)}' is neither a file "
                       r'nor a dataset that mmseg knows \(.*\bade20k\b.*\bcityscapes\b.*\)$'):
        read_class_names(unknown)


@pytest.mark.parametrize('name', [
    '\ufefftraffic light', 'traffic\u200b light', 'traffic  light', 'traffic\u00a0light',
    'traffic_light', 'traffic\tlight\x07', '\u202atraffic light\u202c', 'traffic\u3164 light',
    'traffic \ufe0flight', 'tra\u034fffic light', 'traffic light\u2800'])
def test_what_cannot_be_seen_is_no_part_of_a_name(name: str) -> None:
    assert read_class_names([name, 'sky']) == ['traffic light', 'sky']


@pytest.mark.parametrize(('text', 'names'), [
    ('0:invalid_class_id\n1:wall,walls,brick_wall\n2:sky\n', ['wall;walls;brick wall', 'sky']),
    ('0:wall\n1: sky, skies', ['wall', 'sky; skies']),
    ('1 : wall\n2 : sky', ['wall', 'sky']),
    ('\ufeffcat\ndog\x0chound\n', ['cat', 'dog hound']),
])
def test_lists_of_other_projects(text: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_text(text, encoding='utf-8')
    assert read_class_names(str(tmp_path / 'names.txt')) == names


@pytest.mark.parametrize(('content', 'message'), [
    ('Katze\nHund'.encode('utf-16'), r'names.txt. is no text in UTF-8; save it as such'),
    ('Tür'.encode('latin-1'), r'names.txt. is no text in UTF-8'),
    (b'1:wall\n3:sky', r'names.txt.: the numbers before the names are not 0, 1, 2'),
    (b'7:wall\n8:sky', r'the numbers before the names are not'),
])
def test_files_that_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_class_names(str(tmp_path / 'names.txt'))


def test_a_file_that_is_too_large_for_names(tmp_path: Path) -> None:
    path = tmp_path / 'names.txt'
    path.touch()
    os.truncate(path, 2**26 + 1)
    with pytest.raises(ValueError, match=r'names.txt. has more than 67,108,864 bytes, which is no'):
        read_class_names(str(path))


@pytest.mark.parametrize(('names', 'message'), [
    ([True, 'cat'], 'name 0 is True, which is no text; quote it'),
    (None, 'class_names is a NoneType; give a list of names'),
    ('x' * 10**5, 'is neither a file nor a dataset'),
    ('/dev/zero', 'is neither a file nor a dataset'),
    (['cat', 'd\udcffg'], r"name 1 \('d\\udcffg'\) is no text in UTF-8"),
    (['\ud83d', 'cat'], r"name 0 \('\\ud83d'\) is no text in UTF-8"),
])
def test_what_is_no_list_of_names(names: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_class_names(names)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(('names', 'classes', 'moved'), [
    (['road', 'tree'], ['tree', 'road'], True),
    (['road;street', 'tree;bush', 'car'], ['bush', 'Street', 'van'], True),
    (['background', 'road', 'tree'], ['road', 'tree', 'car'], True),
    (['road', 'traffic light'], ['road ', 'traffic_light'], False),
    (['street', 'plant'], ['road', 'tree'], False),
    (['screen', 'projection screen'], ['monitor', 'screen'], False),  # other words, no other order
])
def test_another_order(names: list[str], classes: list[str], moved: bool) -> None:
    fault = another_order(names, classes, 'the training set')
    assert bool(fault) == moved
    if moved:
        assert fault.startswith("the training set has the model's classes in another order: '")
