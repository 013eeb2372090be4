"""One rule for the classes of a model and those of its data or its checkpoint."""

from collections.abc import Sequence

from denseclip_mm.models.vocabulary import clean_name, split_synonyms

MOST_CLASSES = 255  # mmseg's LoadAnnotations reads labels as 8 bits, and 255 is void
TOO_MANY = ('{} has {} classes, and LoadAnnotations reads labels as 8 bits, of which 255 is void; '
            'join classes until there are 255 at most, or load labels by a step of your own, with '
            'another ignore_index in heads, RandomCrop and metrics and another seg_pad_val')


def disagreement(names: Sequence[str], classes: Sequence[str], owner: str) -> str | None:
    """Say where classes and a model's names are not as many, or in another order.

    Args and the rule of the order: see :func:`another_order`.

    Examples:
        >>> disagreement(['road', 'tree'], ['road'], 'the training set')
        'the training set has 1 classes, but the neck has 2 class_names; make them equal'
    """
    if len(names) != len(classes):
        return (f'{owner} has {len(classes)} classes, but the neck has {len(names)} class_names; '
                'make them equal')
    return another_order(names, classes, owner)


def another_order(names: Sequence[str], classes: Sequence[str], owner: str) -> str | None:
    """Say where classes are those of a model in another order.

    Names may differ, as words for the same classes do; two or more that stand at the place of
    another class are an error.

    Args:
        names: the model's.
        classes: those of a dataset or a checkpoint.
        owner: of ``classes``, for the message.

    Examples:
        >>> another_order(['road;street', 'tree'], ['street', 'plant'], 'the training set')
        >>> another_order(['road', 'tree'], ['tree', 'road'], 'the training set')[:59]
        "the training set has the model's classes in another order: "
    """
    place = {text.lower(): index for index, name in enumerate(names)
             for text in split_synonyms(name)}
    own = [clean_name(name).lower() for name in classes]
    moved = [index for index, name in enumerate(own) if place.get(name, index) != index]
    if len(moved) < 2:
        return None
    first = moved[0]
    return (f"{owner} has the model's classes in another order: {own[first]!r} is its class "
            f'{first} and class {place[own[first]]} of the model; the place of a name is its label')
