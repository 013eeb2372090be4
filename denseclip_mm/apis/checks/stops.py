"""Ctrl-C and SIGTERM, by which a person or a queue stops a tool."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, as of a queue or ``kill``, ends the block as Ctrl-C does, if nothing else does."""
    ours = (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    try:
        if ours:
            signal.signal(signal.SIGTERM, _raise_interrupt)
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def signal_behind(error: BaseException | None) -> int | None:
    """The signal that stopped the process, also where others made an error of their own of it.

    mmengine takes what ends yapf for a mistake in a config, and PyTorch its killed data workers.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error and (*error.args, signal.SIGINT)[0]
