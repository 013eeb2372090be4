"""Files, written whole or not at all.

Nothing here knows what is in them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: the path to write to, which takes the target's place.

    It takes it when the block ends. If the block raises, also by Ctrl-C, the target stays as it
    was. Parents are made; writers of one target at the same time do not disturb each other, and the
    last of them stays.

    Args:
        path: the target; a folder is possible where there is none yet.

    Yields:
        A path of the target's name, in a folder of its own beside the target. What else the block
        writes into that folder, such as ONNX's external data, goes along.

    Examples:
        >>> with TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder) / 'results' / 'classes.txt') as part:
        ...         _ = part.write_text('sky')
        ...     [path.read_text() for path in Path(folder).rglob('*.*')]
        ['sky']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix='.part-') as folder:
        part = Path(folder) / path.name
        yield part
        for other in set(part.parent.iterdir()) - {part}:
            os.replace(other, path.with_name(other.name))
        os.replace(part, path)
