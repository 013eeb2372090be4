"""A user's mistake in one line: what is wrong, where in the config, and what to do.

mmengine meets a mistake in a config wherever it reads, builds or first uses the entry, and raises
what happens to go wrong there. The key is then found by the frames of the trace: one of them was
called with the entry, or is a method of what was built from it.
"""

import io
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import signature
from linecache import getline
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from traceback import walk_tb
from types import FrameType
from typing import Any
from warnings import filterwarnings

from denseclip_mm.apis.checks.stops import signal_behind, terminable

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import ValLoop

# What mmseg says of the ways in which it calls itself, and matplotlib of each letter that no font
# has, which is drawn as a box.
_OWN_WAYS = (r'``build_\w+`` would be deprecated soon|Default ``avg_non_ignore`` is False|'
             r'The draw is False|For binary segmentation, we suggest|Glyph \d+ .*missing from')
_LONGEST = 400  # characters of another library's message
_CHATTER = re.compile(r'\. Please check whether|, the current sys.path is')  # of mmengine


class FirstIteration(Hook):
    """Knows whether the first iteration of a run is through, and its first evaluation."""

    priority = 'VERY_LOW'  # schedulers and checkpoints are part of it
    done = evaluated = False

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """It is."""
        self.done = True

    after_test_iter = after_train_iter

    def after_val_epoch(self, *args: Any, **kwargs: Any) -> None:
        """It is, with its figures."""
        self.evaluated = True

    after_test_epoch = after_val_epoch


def did_you_mean(word: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """The end of a message: which of the known words is spelt nearly like this one, if any.

    Examples:
        >>> did_you_mean('modl', ['model', 'train_cfg'])
        "; did you mean 'model'?"
    """
    near = get_close_matches(word, known, 1, cutoff)
    return f'; did you mean {near[0]!r}?' if near else ''


@contextmanager
def one_line(traceback: bool, what: str = '', stopped: Callable[[], str] = lambda: (
        'the same command begins anew')) -> Iterator[FirstIteration]:
    """End the process in one line and with exit code 1 where its user made a mistake.

    So does Ctrl-C, with exit code 130, and SIGTERM, with 143.

    Until the first iteration is through, any exception is taken for a mistake in what was given; in
    validations and figures, until the first of them are. Later ones are taken for bugs and keep
    their trace, but for what is expected: errors of the operating system, such as a full disk, a
    lost loss (``FloatingPointError``), and this package's own ``ValueError``.

    Args:
        traceback: let the exception through.
        what: failed, as the beginning of the line.
        stopped: says, after Ctrl-C, what is there and how to go on.

    Yields:
        A hook for the runner. A tool without one has no iterations.

    Raises:
        SystemExit: in place of the mistake.

    Examples:
        >>> with one_line(traceback=False):
        ...     raise ValueError('opacity has to be 0 to 1, got 7')
        Traceback (most recent call last):
            ...
        SystemExit: error: opacity has to be 0 to 1, got 7
    """
    first = FirstIteration()
    filterwarnings('ignore', _OWN_WAYS)  # for good: models of other names are built later
    if isinstance(sys.stdout, io.TextIOWrapper):  # what it has no letters for would be a mistake
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        with terminable():
            yield first
    except (Exception, KeyboardInterrupt) as error:
        if not traceback and (number := signal_behind(error)):
            if number != signal.SIGINT:  # data workers died, as PyTorch would go on to say
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            sys.stderr.write(f'stopped: {stopped()}\n')
            sys.exit(128 + number)
        if isinstance(error, KeyboardInterrupt):
            raise
        # Once each: a frame that catches and raises again stands in the trace twice.
        frames = list(dict.fromkeys(frame for frame, _ in walk_tb(error.__traceback__)))
        through = first.evaluated if _evaluates(frames) else first.done
        if traceback or (through and not _is_expected(error, frames)):
            raise
        sys.exit(f'error: {what}{_describe(error, frames)}')


def _evaluates(frames: list[FrameType]) -> bool:
    """Whether an exception was met in a validation, or by what makes figures."""
    return any(isinstance(frame.f_locals.get('self'), ValLoop | Evaluator) for frame in frames)


def _is_expected(error: Exception, frames: list[FrameType]) -> bool:
    tool, last = frames[1].f_globals, frames[-1].f_globals
    folder, beside = (Path(each.get('__file__', '')).parent for each in (tool, last))
    ours = folder == beside or last.get('__name__', '').startswith('denseclip_mm.')
    return isinstance(error, OSError | FloatingPointError) or (
        ours and isinstance(error, ValueError))


def _describe(error: Exception, frames: list[FrameType]) -> str:
    files = [frame.f_locals['filename'] for frame in frames
             if frame.f_code.co_name == '_file2dict']
    if len(files) > len(set(files)):
        circle = files[:files.index(files[0], 1) + 1]
        return f'{" has the base ".join(circle)}: a circle; take one of them out'
    if _is_expected(error, frames):
        by_hook = any(isinstance(frame.f_locals.get('self'), Hook) for frame in frames)
        return ('' if by_hook else _key(frames)) + _last_line(str(error))  # hooks name the parts
    files = files or [str(frame.f_locals['filename']) for frame in frames
                      if frame.f_code.co_name == 'fromfile']  # before mmengine opens it
    where = _line(files, frames) if files else _key(frames)
    return f'{where}{_message(error, frames)} (--traceback shows the rest)'


def _message(error: Exception, frames: list[FrameType]) -> str:
    """What another library says, in one line, with its kind and what may have been meant."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, UnpicklingError):
        return 'a checkpoint is damaged or would run code when it is loaded, so it was not read'
    if 'Original Traceback' in text:
        return _last_line(text)
    absent = re.fullmatch(r"'ConfigDict' object has no attribute '(\w+)'", text)
    if absent:
        return f'the config has no {absent[1]!r} where one is needed'
    if not text:  # a bare assertion
        text = getline(frames[-1].f_code.co_filename, frames[-1].f_lineno)
    text = shorten(_CHATTER.split(text.replace('<unknown>, ', ''))[0], _LONGEST)
    return f'{type(error).__name__}: {text}{_meant(text, frames)}'


def _last_line(text: str) -> str:
    """The message of an error in a worker of a data loader, which quotes its trace."""
    return text.strip().splitlines()[-1] if 'Original Traceback' in text else ' '.join(text.split())


def _meant(text: str, frames: list[FrameType]) -> str:
    """What is spelt nearly like an unknown type or option, or how an option is got rid of."""
    build = next((frame.f_locals for frame in reversed(frames)
                  if frame.f_code.co_name == 'build_from_cfg'), None)
    unknown = re.search(r"unexpected keyword argument '(\w+)'|^(\w+) is not in the ", text)
    if build is None or unknown is None:
        return ''
    if unknown[1]:
        known = {name for cls in getattr(build['obj_cls'], '__mro__', [build['obj_cls']])
                 if cls is not object for name in signature(cls).parameters}
        meant = '' if unknown[1] in known else did_you_mean(unknown[1], known)  # a parent takes it
        return meant or ('; if it is left over from a base of the config, _delete_=True in this '
                         'entry drops what the base has')
    parent = build['registry'].parent
    known = {*build['registry'].module_dict, *(parent.module_dict if parent else ())}
    return did_you_mean(unknown[2], known)


def _line(files: list[str], frames: list[FrameType]) -> str:
    """The config file that was read, its line if it is a statement, and whose base it is."""
    lines = [frame.f_lineno for frame in frames if frame.f_code.co_filename == files[-1]]
    return ', a base of '.join(reversed(files)) + (f', line {lines[-1]}' if lines else '') + ': '


def _key(frames: list[FrameType]) -> str:
    """The entry of the config that the innermost frames deal with, by its keys."""
    cfg = next((frame.f_locals['cfg'] for frame in frames
                if isinstance(frame.f_locals.get('cfg'), Config)), None)
    entries, found = list(entries_of(cfg._cfg_dict, '')) if cfg else [], []
    for frame in frames:
        if frame.f_code.co_name == 'run':  # a loop, which deals with all of it
            found = []
        inside = [(key, entry) for key, entry in entries
                  if f'{key}.'.startswith(tuple(f'{outer}.' for outer in found))]
        found = _entries_of(frame, inside) or _entries_of(frame, entries) or found
    return f'{" or ".join(found[:3])}: ' if found else ''


def entries_of(value: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dicts in a part of a config, by their keys.

    Args:
        value: a dict or a list.
        key: of it, with a dot at its end.

    Examples:
        >>> dict(entries_of([dict(a=1, b=dict(c=2))], 'hooks.'))
        {'hooks.0': {'a': 1, 'b': {'c': 2}}, 'hooks.0.b': {'c': 2}}
    """
    items = dict.items(value) if isinstance(value, dict) else enumerate(value)
    for inner, each in items:
        if isinstance(each, dict | list | tuple):
            if isinstance(each, dict) and each:
                yield f'{key}{inner}', each
            yield from entries_of(each, f'{key}{inner}.')


def _entries_of(frame: FrameType, entries: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Keys of the entry that a frame's object was built from, or that is its only argument."""
    code = frame.f_code
    given = {name: frame.f_locals.get(name)
             for name in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]}
    built = type(given.get('self'))
    package = built.__module__.partition('.')[0]
    for names in ([f'{package}.{built.__name__}'], [built, built.__name__]):  # of its scope first
        if found := [key for key, entry in entries if entry.get('type') in names]:
            return found
    dicts = [each for each in given.values() if isinstance(each, dict) and each]
    equal = [[key for key, entry in entries if entry == each] or
             [key for key, entry in entries if 'type' in each and entry.get('type') == each['type']]
             for each in dicts]
    equal = [keys for keys in equal if keys]
    return equal[0] if len(equal) == 1 else []
