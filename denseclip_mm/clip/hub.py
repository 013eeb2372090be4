"""The Hugging Face hub, as open_clip fetches from it: in silence, and not again without a network.

Its client tries each file for 23 seconds, with a line for each try, and open_clip two names for
most files.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import LocalEntryNotFoundError
from open_clip.factory import HF_HUB_PREFIX as HUB
from open_clip.factory import LOCAL_DIR_PREFIX as LOCAL


class NoNetworkError(FileNotFoundError):
    """The hub cannot be reached, and what is asked for was not fetched before."""


def fault_of(error: BaseException) -> str:
    """The kind of an error of a hub's client, below what others made of it.

    Examples:
        >>> fault_of(KeyError('name'))
        'KeyError'
    """
    below = _unreachable(error)
    if below is not None:
        return f'no network: {type(below).__name__}'
    return type(error.__cause__ or error.__context__ or error).__name__


def _unreachable(error: BaseException | None) -> BaseException | None:
    """Why the client could not reach the hub, if that is what it raised."""
    while error is not None:
        below = error.__cause__ or error.__context__
        if isinstance(error, LocalEntryNotFoundError):
            return below or error
        error = below
    return None


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Without the warnings of the hub's client; what it raises says what they say."""
    logger = logging.getLogger('huggingface_hub')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def download(tags: Iterable[dict[str, Any]], what: str, cure: str) -> Path:
    """The first of these tags of open_clip that can be fetched.

    Args:
        tags: as open_clip describes them.
        what: they are, and where they should come from, for the error message.
        cure: for those without a network.

    Raises:
        NoNetworkError: (a FileNotFoundError) if the hub cannot be reached; no other is tried then.
        FileNotFoundError: if none of them can be fetched.
    """
    kind = FileNotFoundError
    for tag in tags:
        try:
            with quiet_hub():
                return Path(open_clip.download_pretrained(tag))
        except Exception as error:  # whatever a hub client or a socket raises, the cure is the same
            cause = error
        if _unreachable(cause):
            kind = NoNetworkError
            break
    raise kind(f'{what} ({fault_of(cause)}). Without a network: {cure}') from cause


def from_hub(name: str, files: Sequence[str]) -> Path:
    """The first of these files that a repository on the Hugging Face hub has, fetched.

    Raises:
        NoNetworkError: (a FileNotFoundError) if the hub cannot be reached.
        FileNotFoundError: if none of them can be fetched.
    """
    try:
        return download(
            (dict(hf_hub=f'{name}/{file}') for file in files),
            f'{" or ".join(files)} of {HUB + name!r} could not be fetched from the Hugging Face '
            'hub',
            f'copy the folder of https://huggingface.co/{name} from a machine that has one, and '
            f"write '{LOCAL}FOLDER'")
    except NoNetworkError:
        if known := cached(name, files):
            return known
        raise


def cached(name: str, files: Iterable[str]) -> Path | None:
    """The first of these files of a repository that was fetched before."""
    with suppress(ValueError):  # a name that cannot be one
        for file in files:
            if isinstance(path := try_to_load_from_cache(name, file), str):
                return Path(path)
    return None
