"""From what a config may say about classes to names and texts."""

import re
from collections.abc import Sequence
from pathlib import Path

from mmseg.utils import dataset_aliases, get_classes


def read_class_names(class_names: str | Sequence[str]) -> list[str]:
    """Class names of a config entry.

    Args:
        class_names: a dataset alias that mmseg knows ('ade20k', 'cityscapes', ...), a file with a
            name a line, or the names. ``a;b`` names one class by two synonyms.

    Returns:
        The names, white space trimmed.

    Raises:
        ValueError: if the string is neither alias nor file, there is no name, a name or synonym is
            empty, or two are the same.
    """
    source = 'class_names'
    if isinstance(class_names, str):
        source = f'class_names={class_names!r}'
        path = Path(class_names).expanduser()
        if class_names in _aliases():
            class_names = get_classes(class_names)
        elif path.is_file():
            class_names = path.read_text(encoding='utf-8').splitlines()
        else:
            raise ValueError(f'{source} is neither a file nor a dataset that mmseg knows '
                             f'({", ".join(sorted(_aliases()))})')
    names = [name.strip() for name in class_names]
    if not names:
        raise ValueError(f'{source} holds no names')
    owner: dict[str, int] = {}
    for index, name in enumerate(names):
        for text in split_synonyms(name):
            if not text:
                raise ValueError(f'{source}: name {index} ({name!r}) is empty or has an empty '
                                 'synonym')
            if text.lower() in owner:
                raise ValueError(f'{source}: {text!r} stands twice, as class {owner[text.lower()]} '
                                 f'and as class {index}; the text tower could not tell them apart')
            owner[text.lower()] = index
    return names


def parse_class_names(text: str) -> str | list[str]:
    """Class names of a command line or a text field.

    Args:
        text: ``'cat, dog;puppy'``, or a name a line (a semicolon joins synonyms); a ``.txt`` file
            with a name a line; or a dataset alias of mmseg.

    Returns:
        The names; a file or an alias stays a string.
    """
    names = [name.strip() for name in re.split(r',?\s*\n\s*|,', text.strip())]
    if len(names) == 1 and (names[0] in _aliases() or Path(names[0]).suffix == '.txt'):
        return names[0]
    return names


def split_synonyms(name: str) -> list[str]:
    """Texts of one class."""
    return [text.strip() for text in name.split(';')]


def _aliases() -> set[str]:
    return {alias for aliases in dataset_aliases.values() for alias in aliases}
