"""Class names: from what a config may say to texts, and from texts' scores back to classes.

Shapes: B images, K classes, S texts (classes and their synonyms), M prompts of a text.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from denseclip_mm.models.transport import transport_shares
from denseclip_mm.text import CLIPTextTower, Prompt

import regex
import torch
from mmseg.utils import dataset_aliases, get_classes
from open_clip.tokenizer import _tokenizer, basic_clean
from torch import Tensor, nn

_REDUCTIONS = {'best': 'amax', 'mean': 'mean', 'transport': 'sum'}
_LONGEST = 1000  # characters of a text: CLIP has 77 tokens, and takes minutes for 10^5 characters
_LARGEST = 2**26  # bytes of a file of names
# What no font shows; Braille's cell without a dot is a symbol to Unicode.
_UNSEEN = regex.compile(r'[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800--\s]', regex.V1)
_SEEN = regex.compile(r'[^\p{C}\p{Z}]')


class Vocabulary(nn.Module):
    """Class names, laid out for a prompt.

    Attributes:
        names: the K classes.
        texts: the S texts, the synonyms of a class one after the other.
        class_of_text: (S * M,) class of each prompt of each text.
        trees: the prompt's layout of the texts, once :meth:`lay_out` was called.

    Args:
        names: the K classes; ``a;b`` are synonyms.
        synonyms: the score of a class is its prompts' ``'best'``, their ``'mean'``, or a mean
            weighed in every cell by ``'transport'`` (:mod:`denseclip_mm.models.transport`).

    Raises:
        ValueError: if ``synonyms`` is none of these.

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
            raise ValueError(f"synonyms must be 'best', 'mean' or 'transport', got {synonyms!r}")
        self.names = names
        self.synonyms = synonyms
        self.texts = [text for name in names for text in split_synonyms(name)]
        self.trees = nn.ModuleList()
        owners = [index for index, name in enumerate(names) for _ in split_synonyms(name)]
        self.register_buffer('class_of_text', torch.tensor(owners), persistent=False)

    def lay_out(self, prompt: Prompt, text_encoder: CLIPTextTower | None) -> None:
        """Lay the texts out for a prompt.

        Raises:
            ValueError: if a text is too long for the tower.
        """
        self.trees = prompt.lay_out(text_encoder, self.texts)
        self.class_of_text = self.class_of_text.repeat_interleave(prompt.num_prompts)

    def score_of_classes(self, score_BSHW: Tensor) -> Tensor:
        """(B, S * M, H, W) scores of the prompts to (B, K, H, W) scores of classes."""
        if score_BSHW.shape[1] == len(self.names):
            return score_BSHW
        if self.synonyms == 'transport':
            score_BSHW = score_BSHW * transport_shares(
                score_BSHW, self.class_of_text, len(self.names))
        index = self.class_of_text[:, None, None].expand_as(score_BSHW)
        score_BKHW = score_BSHW.new_zeros(
            (score_BSHW.shape[0], len(self.names), *score_BSHW.shape[2:]))
        return score_BKHW.scatter_reduce(1, index, score_BSHW, _REDUCTIONS[self.synonyms],
                                         include_self=False)


def read_class_names(class_names: str | Sequence[str]) -> list[str]:
    """Class names of a config entry.

    A file has a name a line, or is a numbered list as other projects publish them, such as
    ``1:wall,brick wall``: numbers in order, synonyms by comma, and a first entry
    ``invalid_class_id`` that is left out.

    Args:
        class_names: a dataset alias that mmseg knows ('ade20k', 'cityscapes', ...), 'coco' (the 80
            things, of mmdet), a file, or the names. ``a;b`` names one class by two synonyms.

    Returns:
        The names, as :func:`clean_name` gives them.

    Raises:
        ValueError: if the string is neither alias nor file, the file is no UTF-8 or has over 64 MB,
            there is no name, a name is no text, has a comma or a number before it, or a name or
            synonym is empty, unseen, over 1,000 characters or another's equal to CLIP's tokenizer.

    Examples:
        >>> read_class_names(['road ', 'tree;bush', 'traffic_light'])
        ['road', 'tree;bush', 'traffic light']
        >>> read_class_names('cityscapes')[:3]
        ['road', 'sidewalk', 'building']
    """
    source = 'class_names'
    if isinstance(class_names, str):
        source = f'class_names={shorten(class_names, 200)!r}'
        if class_names in _aliases():
            class_names = _coco() if class_names == 'coco' else get_classes(class_names)
        elif _is_file(class_names):
            class_names = _read_list(Path(class_names).expanduser(), source)
        else:
            raise ValueError(f'{source} is neither a file nor a dataset that mmseg knows '
                             f'({", ".join(sorted(_aliases()))})')
    if not isinstance(class_names, Sequence):
        raise ValueError(f'{source} is a {type(class_names).__name__}; give a list of names')
    for index, name in enumerate(class_names):
        if not isinstance(name, str):
            raise ValueError(f'{source}: name {index} is {name!r}, which is no text; quote it')
        if regex.search(r'\p{Cs}', name):  # half of a character, or a byte of none
            raise ValueError(f'{source}: name {index} ({name!r}) is no text in UTF-8')
    if not (names := [*map(clean_name, class_names)]):
        raise ValueError(f'{source} holds no names')
    owner: dict[tuple[int, ...], tuple[int, str]] = {}
    for index, name in enumerate(names):
        _check_form(name, f'{source}: name {index} ({shorten(name, 100)!r})')
        for text in split_synonyms(name):
            tokens = tuple(_tokenizer.encode(text))
            if tokens not in owner:
                owner[tokens] = index, text
                continue
            first, other = owner[tokens]
            if first == index:
                raise ValueError(f'{source}: name {index} ({name!r}) holds {text!r} twice')
            same = 'stands twice' if text.lower() == other.lower() else f'is {other!r} once more'
            raise ValueError(f'{source}: {text!r} {same}, as class {first} and as class {index}; '
                             'the text tower could not tell them apart')
    return names


def clean_name(name: str) -> str:
    r"""A name as it is read: ``_`` is a space, as in CoOp.

    White space is trimmed and counts as one space; what cannot be seen is taken out, such as
    byte-order marks, zero-width and control characters, fillers, variation selectors.

    Examples:
        >>> clean_name('\ufefftraffic_light  \n'), clean_name('zero\u200bwidth')
        ('traffic light', 'zerowidth')
    """
    return ' '.join(_UNSEEN.sub('', name.replace('_', ' ')).split())


def parse_class_names(text: str) -> str | list[str]:
    """Class names of a command line or a text field.

    Args:
        text: ``'cat, dog;puppy'``, or a name a line (a semicolon joins synonyms); a file with a
            name a line, which is there or ends in ``.txt``; or a dataset alias of mmseg.

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
    if len(names) == 1 and (names[0] in _aliases() or names[0].lower().endswith('.txt')
                            or _is_file(names[0])):
        return names[0]
    return names


def split_synonyms(name: str) -> list[str]:
    """Texts of one class.

    Examples:
        >>> split_synonyms('tree; bush')
        ['tree', 'bush']
    """
    return [text.strip() for text in name.split(';')]


def _check_form(name: str, where: str) -> None:
    """Refuse what is another way to write a list."""
    texts = split_synonyms(name)
    if max(map(len, texts)) > _LONGEST:
        raise ValueError(f'{where} has more than {_LONGEST} characters')
    if not all(_SEEN.search(clean_name(basic_clean(text))) for text in texts):
        raise ValueError(f'{where} is empty or has an empty synonym')
    if ',' in name:
        raise ValueError(f'{where} has a comma; a semicolon joins synonyms, and classes are names '
                         'of their own (in a file a line each)')
    if re.match(r'\d+\s*:', name):
        raise ValueError(f'{where} starts with a number; such lists are read from files only, and '
                         'all lines need theirs, in order')


def _read_list(path: Path, source: str) -> list[str]:
    """The lines of a file; those of a numbered list without number and with ``;`` for commas."""
    if path.stat().st_size > _LARGEST:
        raise ValueError(f'{source} has more than {_LARGEST:,} bytes, which is no list of names')
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError:
        raise ValueError(f'{source} is no text in UTF-8; save it as such') from None
    lines = text.removesuffix('\n').split('\n') if text else []
    numbered = [re.fullmatch(r'\s*(\d+)\s*:(.*)', line) for line in lines]
    if not numbered or not all(numbered):
        return lines
    numbers = [int(match[1]) for match in numbered]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise ValueError(f'{source}: the numbers before the names are not 0, 1, 2, ... or 1, 2, '
                         '3, ... in order; the place of a name is its label')
    names = [match[2].replace(',', ';') for match in numbered]
    return names[names[0].strip() == 'invalid_class_id':]


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError):  # a name too long; no home
        return False


def _aliases() -> set[str]:
    return {'coco', *(alias for aliases in dataset_aliases.values() for alias in aliases)}


def _coco() -> list[str]:
    try:
        from mmdet.evaluation import get_classes as classes_of_things
    except ImportError:
        raise ValueError("class_names='coco' are mmdet's, which is not installed: pip install "
                         "'denseclip_mm[mmdet]' (or [onedl-mmdet])") from None
    return classes_of_things('coco')
