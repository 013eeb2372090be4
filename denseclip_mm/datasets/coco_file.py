"""The form of a COCO file: lists of entries with the keys that mmdet and pycocotools look up."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from mmengine import fileio

Entry = dict[str, Any]
TWICE = 'ids of {kind} that stand twice: {{}}; give each its own'
ABSENT = '{kind} without {key!r}: {{}}; write "{key}": {form}'
OTHER_FORM = '{kind} whose {key!r} is of another form: {{}}; write "{key}": {form}'


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # which nan is not


def _is_side(value: Any) -> bool:
    return _is_number(value) and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != '' and '\0' not in value


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_flag(value: Any) -> bool:
    return type(value) in (int, float, bool) and value in (0, 1)  # "0" would be one


def _is_measured_id(value: Any) -> bool:
    return type(value) is int and value != 0


_FORMS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    'images': {'id': (_is_id, '1'), 'file_name': (_is_text, '"1.jpg"'),
               'height': (_is_side, '480, in pixels'), 'width': (_is_side, '640, in pixels')},
    'categories': {'id': (_is_id, '1'), 'name': (_is_text, '"cat"')},
    'annotations': {
        'id': (_is_id, '1'), 'image_id': (_is_id, '1, the id of its image'),
        'category_id': (_is_id, '1, the id of its category'),
        'bbox': (_is_box, '[x, y, width, height], in pixels'),
        'area': (_is_number, '1600, in pixels (width * height of the box will do)')},
}
_FLAG = {'iscrowd': (_is_flag, '0')}
_MEASURED_ID = {'id': (_is_measured_id, '1, 2, ...: pycocotools needs numbers, and takes 0 for a '
                       'box that is not found')}


@dataclass(frozen=True)
class Use:
    """What a run needs of a COCO file.

    Attributes:
        path: of the file, as mmdet reads it.
        split: ``train``, ``val`` or ``test``.
        classes: names of the config's classes.
        masks: whether outlines are read.
        polygons: whether they have to be polygons.
        measured: whether ``CocoMetric`` measures by this file.
        filled: whether images without an annotation of a class are left out.
        min_size: images of a smaller side are left out.
        backend_args: of mmengine's file backend.
    """

    path: str
    split: str
    classes: tuple[str, ...]
    masks: bool = False
    polygons: bool = False
    measured: bool = False
    filled: bool = False
    min_size: float = 0
    backend_args: dict[str, Any] | None = field(default=None, hash=False)


def is_local(path: str, backend_args: dict[str, Any] | None) -> bool:
    """Whether a path is one of this machine's."""
    return '://' not in path and backend_args is None


def read(use: Use) -> dict[str, list[Entry]]:
    """The lists of a COCO file, as pycocotools reads them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, or not of COCO's instances.
    """
    if is_local(use.path, use.backend_args) and not Path(use.path).is_file():
        raise FileNotFoundError(f'there is no annotation file {use.path!r} (looked from '
                                f'{Path.cwd()})')
    try:
        content = json.loads(fileio.get(use.path, use.backend_args).decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{use.path} is no JSON in UTF-8: {error}') from None
    if isinstance(content, dict):
        content.setdefault('annotations', [])  # as of pictures to test on alone
    for kind in _FORMS:
        entries = content.get(kind) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{use.path} is no file of COCO's instances, which has lists of dicts "
                             f"'images', 'annotations' and 'categories'; {kind!r} is none")
    return content


def sound(kind: str, entries: list[Entry], measured: bool,
          problems: defaultdict[str, list[str]]) -> dict[int | str, Entry]:
    """Entries that have what they need, by their ids.

    Args:
        kind: ``images``, ``categories`` or ``annotations``.
        entries: of that kind.
        measured: whether ``CocoMetric`` measures by them, and looks up more.
        problems: gets what is wrong with the others.
    """
    forms = _FORMS[kind]
    if kind == 'annotations':
        forms = forms | _FLAG | (_MEASURED_ID if measured else {})
    found: dict[int | str, Entry] = {}
    for place, entry in enumerate(entries):
        wrong = [key for key, (is_right, _) in forms.items()
                 if (not is_right(entry[key]) if key in entry
                     else measured or key not in _FLAG)]
        for key in wrong:
            message = (OTHER_FORM if key in entry else ABSENT).format(
                kind=kind, key=key, form=forms[key][1])
            problems[message].append(f'{brief(entry.get("id", f"number {place}"))}'
                                     + (f': {brief(entry[key])}' if key in entry else ''))
        if not wrong and entry['id'] in found:
            problems[TWICE.format(kind=kind)].append(brief(entry['id']))
        elif not wrong:
            found[entry['id']] = entry
    return found
