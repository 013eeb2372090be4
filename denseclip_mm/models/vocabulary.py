"""Class names: from what a config may say to texts, and from texts' scores back to classes.

Shapes: B images, K classes, S texts (classes and their synonyms).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmseg.utils import dataset_aliases, get_classes
from torch import Tensor, nn

_REDUCTIONS = {'best': 'amax', 'mean': 'mean'}


class Vocabulary(nn.Module):
    """Class names, laid out for a prompt.

    Attributes:
        names: the K classes.
        texts: the S texts, the synonyms of a class one after the other.
        class_of_text: (S,) class of each text.
        trees: the prompt's layout of the texts.

    Args:
        names: the K classes; ``a;b`` are synonyms.
        synonyms: the score of a class is its texts' ``'best'`` or ``'mean'``.

    Raises:
        ValueError: if ``synonyms`` is neither.

    Examples:
        >>> vocabulary = Vocabulary(['tree;bush', 'road'])
        >>> vocabulary.texts, vocabulary.class_of_text
        (['tree', 'bush', 'road'], tensor([0, 0, 1]))
        >>> score_BSHW = torch.tensor([0.1, 0.3, 0.2])[None, :, None, None]
        >>> vocabulary.score_of_classes(score_BSHW).flatten()
        tensor([0.3000, 0.2000])
    """

    class_of_text: Tensor

    def __init__(self, names: list[str], synonyms: str = 'best') -> None:
        super().__init__()
        if synonyms not in _REDUCTIONS:
            raise ValueError(f"synonyms must be 'best' or 'mean', got {synonyms!r}")
        self.names = names
        self.synonyms = synonyms
        self.texts = [text for name in names for text in split_synonyms(name)]
        self.trees = nn.ModuleList()
        owners = [index for index, name in enumerate(names) for _ in split_synonyms(name)]
        self.register_buffer('class_of_text', torch.tensor(owners), persistent=False)

    def score_of_classes(self, score_BSHW: Tensor) -> Tensor:
        """(B, S, H, W) scores of texts to (B, K, H, W) scores of classes."""
        if len(self.texts) == len(self.names):
            return score_BSHW
        index = self.class_of_text[:, None, None].expand_as(score_BSHW)
        score_BKHW = score_BSHW.new_zeros(
            (score_BSHW.shape[0], len(self.names), *score_BSHW.shape[2:]))
        return score_BKHW.scatter_reduce(1, index, score_BSHW, _REDUCTIONS[self.synonyms],
                                         include_self=False)


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

    Examples:
        >>> read_class_names(['road ', 'tree;bush'])
        ['road', 'tree;bush']
        >>> read_class_names('cityscapes')[:3]
        ['road', 'sidewalk', 'building']
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

    Examples:
        >>> parse_class_names('cat, dog;puppy')
        ['cat', 'dog;puppy']
        >>> parse_class_names('ade20k')
        'ade20k'
    """
    lines = '\n'.join(filter(None, map(str.strip, text.split('\n'))))
    names = [name.strip() for name in re.split(r',?\n|,', lines)]
    if len(names) == 1 and (names[0] in _aliases() or Path(names[0]).suffix == '.txt'):
        return names[0]
    return names


def split_synonyms(name: str) -> list[str]:
    """Texts of one class.

    Examples:
        >>> split_synonyms('tree; bush')
        ['tree', 'bush']
    """
    return [text.strip() for text in name.split(';')]


def _aliases() -> set[str]:
    return {alias for aliases in dataset_aliases.values() for alias in aliases}
