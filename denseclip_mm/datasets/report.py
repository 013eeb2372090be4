"""What the reading of a split found, whatever its labels are."""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

NAMED = 3  # files, or things in a file, that a message names


@dataclass
class Report:
    """What a split holds, and what is wrong with it.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        classes: their names; the place of a name is its label.
        num_images: images that the dataset lists.
        images: how many have each label.
        problems: names of files, or of things in a file, by the message about them.
        disagreements: of the model with the classes, a message each.
    """

    split: str
    classes: list[str]
    num_images: int = 0
    images: Counter[int] = field(default_factory=Counter)
    problems: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    disagreements: list[str] = field(default_factory=list)

    def lines(self, messages: Collection[str]) -> list[str]:
        """Those of these messages that are about something, with how many and which."""
        return [message.replace('{}', named(self.problems[message]), 1) for message in messages
                if message in self.problems]

    def absent(self, counts: Counter[int]) -> list[str]:
        """The warning of classes without a single pixel or box, if there are some."""
        names = [name for index, name in enumerate(self.classes) if not counts[index]]
        return [f'classes that never occur: {", ".join(names)}'] if names else []


def named(things: list[str]) -> str:
    """How many there are, and the first of them.

    Examples:
        >>> named(['1.png', '2.png', '3.png', '4.png'])
        '4 (1.png, 2.png, 3.png and 1 more)'
    """
    more = f' and {len(things) - NAMED} more' if len(things) > NAMED else ''
    return f'{len(things):,} ({", ".join(things[:NAMED])}{more})'
