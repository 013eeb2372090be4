"""Class names from aliases, files and lists; what is refused, and how."""

import re
from pathlib import Path

from denseclip_mm.models.vocabulary import read_class_names, split_synonyms

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
    (['cat', 'dog;dog'], "'dog' stands twice, as class 1 and as class 1"),
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


@pytest.mark.parametrize('unknown', ['ade21k', 'no/such/file.txt', '.', ''])
def test_neither_alias_nor_file(unknown: str) -> None:
    with pytest.raises(ValueError, match=f"^class_names='{re.escape(unknown)}' is neither a file "
                       r'nor a dataset that mmseg knows \(.*\bade20k\b.*\bcityscapes\b.*\)$'):
        read_class_names(unknown)
