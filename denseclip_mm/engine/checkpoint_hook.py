"""Checkpoints that are never lost, and from which a run goes on as if it had not been stopped."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner


class ResumableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with the same options; nothing is lost with a run that dies.

    The old checkpoint is removed once the new one is there. A checkpoint holds the random state of
    Python, NumPy, PyTorch and CUDA, of every process. A resumed run loads the data again up to
    where the checkpoint was written, so that data workers have their random state, too, and then
    goes on from the saved state: on a CPU its weights are those of the unbroken run, to the bit.
    Validation leaves the random state as it was. Where a run cannot be repeated, the log says why.
    """

    _loaded: dict[str, Any] | None = None
    _states: list[dict[str, Any]] | None = None  # of every process, while a checkpoint is written
    _kept: dict[str, Any] | None = None  # from before validation to its end

    def before_run(self, runner: Runner) -> None:
        """Note the seed of the data, before mmengine takes over that of the checkpoint.

        Raises:
            ValueError: if there is an option that mmengine would meet when it saves.
        """
        unknown = set(self.args) - set(signature(runner.save_checkpoint).parameters)
        if unknown:
            raise ValueError('default_hooks.checkpoint has no option '
                             f'{", ".join(sorted(unknown))}')
        self._seed = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Prepare to restore the random state, if the run is resumed."""
        super().before_train(runner)
        if runner.iter == 0:
            return
        fault = self._fault(runner)
        if fault:
            runner.logger.warning(f'The resumed run will not equal the unbroken one: {fault}.')
            return
        state = self._loaded['ranks'][get_rank()]
        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator'):
            loop.dataloader_iterator = _Repeated(
                loop.dataloader_iterator, runner.iter, lambda: set_random_state(state))
        else:
            set_random_state(state)

    def before_val(self, runner: Runner) -> None:
        """Keep the random state: validation draws numbers, for one to seed its data workers."""
        self._kept = random_state()

    def after_val(self, runner: Runner) -> None:
        """Go on as if there had been no validation."""
        set_random_state(self._kept)
        self._kept = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the random state to what a run can be resumed from."""
        if self._states is not None:
            checkpoint['random_state'] = dict(ranks=self._states, data=self._data_order(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the random state."""
        self._loaded = checkpoint.get('random_state')

    def _fault(self, runner: Runner) -> str | None:
        """Why the run cannot be repeated."""
        if self._loaded is None:
            return 'its checkpoint holds no random state'
        now = self._data_order(runner)
        for name, was in self._loaded['data'].items():
            if now[name] != was:
                return (f'the run that wrote the checkpoint had {name}={was}, this one '
                        f'{now[name]}, so the data come in another order')
        if getattr(runner.train_loop, 'fast_forward_on_resume', False):
            return 'fast_forward_on_resume starts the data anew'
        loader = runner.train_dataloader
        if loader.persistent_workers and not hasattr(runner.train_loop, 'dataloader_iterator'):
            return 'data workers that persist from epoch to epoch start anew'
        wrapper = runner.optim_wrapper
        if runner.iter % getattr(wrapper, '_accumulative_counts', 1):
            return 'the checkpoint was written between two steps of the optimiser'
        return None

    def _data_order(self, runner: Runner) -> dict[str, int | None]:
        """What the order of the data, and what is drawn for them, depends on."""
        loader = runner.train_dataloader
        return dict(seed=self._seed, processes=get_world_size(), num_workers=loader.num_workers,
                    batch_size=loader.batch_size)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._states = all_gather_object(self._kept or random_state())
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)
        self._states = None

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Removals wait for the end of the block, and are not done if it raises."""
        backend = self.file_backend
        self.file_backend = waiting = _RemovesLast(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        for remove, path in waiting.removals:
            if path not in (self.last_ckpt, *self._best()):  # the same step, saved again
                remove(path)

    def _best(self) -> list[str | None]:
        return [getattr(self, 'best_ckpt_path', None),
                *getattr(self, 'best_ckpt_path_dict', {}).values()]


class _RemovesLast:
    """A storage backend that notes what to remove."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self.backend = backend
        self.removals: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Callable:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self.backend.rmtree, path))


class _Repeated:
    """The iterator of a train loop's data; calls ``restore`` after its first ``count`` batches."""

    def __init__(self, iterator: Iterator[dict], count: int, restore: Callable[[], None]) -> None:
        self.iterator = iterator
        self.count = count
        self.restore = restore

    def __next__(self) -> dict:
        if self.count == 0:  # only now: a loader without workers draws numbers as it loads
            self.restore()
        self.count -= 1
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """Load, where onedl-mmengine would skip: data workers draw numbers as they load."""
        for _ in range(count):
            next(self)


def random_state() -> dict[str, Any]:
    """Random state of Python, NumPy, PyTorch and CUDA: tensors, numbers and tuples of them."""
    name, keys, *rest = np.random.get_state()
    return dict(python=random.getstate(), numpy=(name, keys.tolist(), *rest),
                torch=torch.get_rng_state(),
                cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None)


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`random_state` gave.

    Examples:
        >>> state = random_state()
        >>> first = random.random(), np.random.rand(), torch.rand(1)
        >>> set_random_state(state)
        >>> first == (random.random(), np.random.rand(), torch.rand(1))
        True
    """
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
