"""Categories of a COCO file against the names of a config's classes.

mmdet numbers the categories that are classes in the order of the file, and CocoMetric does the
same, so that the metrics look right where the names are wrong.
"""

from collections import Counter
from collections.abc import Sequence
from reprlib import repr as brief

from denseclip_mm.apis.checks.mistakes import did_you_mean
from denseclip_mm.models.vocabulary import clean_name


def disagreements(names: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Say, a line each, why mmdet would give boxes the labels of other classes.

    Args:
        names: of the categories, in the order of the file.
        classes: of the config (``metainfo``).

    Examples:
        >>> disagreements(['cat', 'zebra', 'dog'], ['cat', 'dog'])
        []
        >>> disagreements(['cat', 'dog'], ['dog', 'cat'])[0][:62]
        "its categories are in another order than metainfo's classes: '"
        >>> disagreements(['Cat'], ['cat'])[0][:55]
        "metainfo has the class 'cat', which is no category here"
    """
    count = Counter(names)
    shown = {clean_name(name).casefold(): name for name in names}
    lines = []
    for name in dict.fromkeys(classes):
        if name not in count:
            same = shown.get(clean_name(name).casefold())
            meant = f'; write {same!r}, as the file does' if same else did_you_mean(name, count)
            lines.append(f'metainfo has the class {name!r}, which is no category here'
                         f'{meant or f"; it has {brief(list(count))}"}')
        elif count[name] > 1:
            lines.append(f'{count[name]} of its categories have the name {name!r}, which mmdet '
                         'takes for as many classes; join them, or rename those without boxes')
    lines += [f'metainfo has the class {name!r} {times} times' for name, times in
              Counter(classes).items() if times > 1]
    order = [name for name in names if name in classes]
    if not lines and order != list(classes):
        place = next(place for place, name in enumerate(order) if name != classes[place])
        lines = [f"its categories are in another order than metainfo's classes: {order[place]!r} "
                 f'is class {place} here and {classes.index(order[place])} there, and mmdet takes '
                 f"the file's order; write metainfo=dict(classes={order}) and the neck's "
                 "class_names alike, or sort the file's categories"]
    return lines
