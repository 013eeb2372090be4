"""Data whose random numbers depend on their place in the training alone.

Each sample is drawn from a seed of its own: that of the run, the process, the number of the batch
and the place in it. So a run does not depend on its number of data workers, leaves the random
numbers of the model alone, and goes on from any batch without loading those before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from denseclip_mm.engine.random_state import drawing_from

import torch
from torch.utils.data import DataLoader, Sampler


@dataclass
class SeededBatch:
    """The indices of a batch; whoever loads them, in whatever process, draws from their seeds.

    PyTorch's loaders iterate over the indices of a batch as they load it.

    Attributes:
        indices: of the samples.
        seed: of the batch; each sample adds its place.
    """

    indices: list[int]
    seed: tuple[int, ...]

    def __iter__(self) -> Iterator[int]:
        """The indices; until the next is asked for, what is drawn is the sample's."""
        for place, index in enumerate(self.indices):
            with drawing_from(*self.seed, place):
                yield index

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.indices)


class SeededBatches:
    """A batch sampler whose batches are seeded by their number.

    Args:
        batches: the batch sampler.
        seed: of the run and the process.

    Attributes:
        number: of the batch that comes next, counted from the beginning of the training.
        start: the first batch that is handed out; those before are passed over, their samples not
            loaded.

    Examples:
        >>> batches = SeededBatches([[4, 2], [0, 3], [1]], seed=(0, 0))
        >>> batches.start = 2
        >>> [(batch.indices, batch.seed) for batch in batches]
        [([1], (0, 0, 2))]
    """

    def __init__(self, batches: Sampler[list[int]], seed: tuple[int, int]) -> None:
        self.batches = batches
        self.sampler = getattr(batches, 'sampler', None)  # which mmengine's hooks set the epoch of
        self.seed = seed
        self.number = self.start = 0

    def __iter__(self) -> Iterator[SeededBatch]:
        """The batches from ``start`` on."""
        for indices in self.batches:
            number, self.number = self.number, self.number + 1
            if number >= self.start:
                yield SeededBatch(list(indices), (*self.seed, number))

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self.batches)


class EndlessBatches:
    """The data of an iteration-based loop: epoch after epoch, in the place of mmengine's iterator.

    mmengine's loop asks for what a resumed run has seen; it gets None, since the batch sampler
    passes it over. onedl's calls ``skip_iter``, or neither.

    Args:
        loader: the loader; its workers start at the first batch.
        passed: how many batches are asked for that were passed over.
    """

    def __init__(self, loader: DataLoader, passed: int) -> None:
        self.passed = passed
        self.batches = self._epochs(loader)

    def __next__(self) -> dict | None:
        """The next batch, or None for one that was passed over."""
        if self.passed:
            self.passed -= 1
            return None
        return next(self.batches)

    def skip_iter(self, count: int) -> None:
        """Nothing: they are passed over."""

    @staticmethod
    def _epochs(loader: DataLoader) -> Iterator[dict]:
        epoch = 0
        while True:
            yield from loader  # a sampler without an end stays in its first epoch
            epoch += 1
            if hasattr(loader.batch_sampler.sampler, 'set_epoch'):
                loader.batch_sampler.sampler.set_epoch(epoch)


def seed_batches(loader: DataLoader, seed: int, rank: int) -> SeededBatches:
    """Have a loader draw each sample from a seed of its own, before it is first iterated over.

    Args:
        loader: of a training.
        seed: of the run.
        rank: of the process.

    Returns:
        Its new batch sampler.
    """
    batches = SeededBatches(loader.batch_sampler, (seed, rank))
    vars(loader)['batch_sampler'] = batches  # which a loader refuses, since it might have begun
    # What data workers start from; the random numbers of the model stay out of it.
    loader.generator = torch.Generator().manual_seed(seed)
    return batches
