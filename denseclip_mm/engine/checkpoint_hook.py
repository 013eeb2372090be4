"""Checkpoints that are never lost, and from which a run goes on as if it had not been stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from denseclip_mm.engine.random_state import random_state, set_random_state
from denseclip_mm.engine.seeded_batches import EndlessBatches, SeededBatches, seed_batches

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner


class ResumableCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with the same options; nothing is lost with a run that dies.

    The old checkpoint is removed once the new one is there. A checkpoint holds the random state of
    Python, NumPy, PyTorch and CUDA, of every process. Each sample of the data is drawn from a seed
    of its own (:mod:`denseclip_mm.engine.seeded_batches`), so a resumed run starts with the batch
    after its checkpoint at once: on a CPU its weights are those of the unbroken run, to the bit,
    with whatever number of data workers. Validation leaves the random state as it was. Where a run
    cannot be repeated, the log says why.
    """

    _batches: SeededBatches | None = None
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
        """Seed the data; restore the random state, if the run is resumed.

        mmengine's loops ask for their first data after this.
        """
        super().before_train(runner)
        loop = runner.train_loop
        self._batches = seed_batches(loop.dataloader, self._seed, get_rank())
        self._batches.start = runner.iter
        if hasattr(loop, 'dataloader_iterator'):
            asks = not hasattr(loop.dataloader_iterator, 'skip_iter')
            loop.dataloader_iterator = EndlessBatches(
                loop.dataloader, passed=runner.iter if asks else 0)
        if runner.iter == 0:
            return
        if fault := self._fault(runner):
            runner.logger.warning(f'The resumed run will not equal the unbroken one: {fault}.')
        else:
            set_random_state(self._loaded['ranks'][get_rank()])

    def before_train_epoch(self, runner: Runner) -> None:
        """Count batches from the beginning of the epoch; iteration-based loops have but one."""
        self._batches.number = runner.epoch * len(self._batches)

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
        was, now = self._loaded['data'], self._data_order(runner)
        if was.keys() != now.keys():
            return 'another version of denseclip_mm wrote its checkpoint'
        for name, value in was.items():
            if now[name] != value:
                return (f'the run that wrote the checkpoint had {name}={value}, this one '
                        f'{now[name]}, so the data come in another order')
        wrapper = runner.optim_wrapper
        if runner.iter % getattr(wrapper, '_accumulative_counts', 1):
            return 'the checkpoint was written between two steps of the optimiser'
        return None

    def _data_order(self, runner: Runner) -> dict[str, int | None]:
        """What the order of the data, and what is drawn for them, depends on."""
        return dict(seed=self._seed, processes=get_world_size(),
                    batch_size=runner.train_dataloader.batch_size)

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
