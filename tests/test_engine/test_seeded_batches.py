"""Samples draw from seeds of their own, in whatever process they are loaded."""

import random

from denseclip_mm.engine.random_state import random_state
from denseclip_mm.engine.seeded_batches import EndlessBatches, seed_batches

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset, Subset


class Drawn(Dataset):
    """Seven samples: the index, and a number of each generator."""

    def __len__(self) -> int:
        """Of them."""
        return 7

    def __getitem__(self, index: int) -> list[float]:
        """Draw a number of each generator."""
        return [index, random.random(), np.random.rand(), torch.rand(1).item()]


def loader(workers: int = 0, infinite: bool = False, seed: int = 0, dataset=None,
           **options) -> DataLoader:
    dataset = dataset or Drawn()
    sampler = (InfiniteSampler if infinite else DefaultSampler)(dataset, seed=3)
    built = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers,
                       collate_fn=list, **options)
    seed_batches(built, seed, rank=0)
    return built


@pytest.fixture(scope='module')
def first() -> list:
    """Nine batches of an endless training."""
    batches = EndlessBatches(loader(infinite=True), 0)
    return [next(batches) for _ in range(9)]


def test_all_samples_draw_other_numbers(first):
    drawn = np.array(first).reshape(-1, 4)
    assert drawn[:7, 0].tolist() != drawn[7:14, 0].tolist()
    assert sorted(drawn[:7, 0]) == sorted(drawn[7:14, 0]) == list(range(7))
    for column in (1, 2, 3):
        assert len(set(drawn[:, column])) == 18
    other = EndlessBatches(loader(infinite=True, seed=1), 0)
    numbers = np.array([next(other) for _ in range(9)]).reshape(-1, 4)
    assert (numbers[:, 0] == drawn[:, 0]).all() and not (numbers[:, 1:] == drawn[:, 1:]).any()


@pytest.mark.parametrize(('workers', 'passed'), [(0, 0), (1, 3), (2, 0), (2, 6)])
def test_batches_follow_from_their_number_alone(workers, passed, first):
    random.seed(passed)
    np.random.seed(passed)
    torch.manual_seed(passed)
    before = random_state()
    built = loader(workers, infinite=True)
    built.batch_sampler.start = passed
    batches = EndlessBatches(built, passed)
    drawn = [next(batches) for _ in range(9)]
    assert drawn == [None] * passed + first[passed:]
    after = random_state()
    assert before['python'] == after['python'] and before['numpy'] == after['numpy']
    assert torch.equal(before['torch'], after['torch'])


@pytest.mark.parametrize('persistent', [False, True])
def test_epochs_have_their_own_order_and_numbers(persistent):
    """A resumed run passes over whole epochs and into one."""
    whole = EndlessBatches(loader(1, persistent_workers=persistent), 0)
    expected = [next(whole) for _ in range(12)]  # 4, 4, 4
    orders = [[sample[0] for batch in expected[at:at + 4] for sample in batch]
              for at in (0, 4, 8)]
    assert len({*map(tuple, orders)}) == 3 and all(sorted(order) == list(range(7))
                                                   for order in orders)
    built = loader()
    built.batch_sampler.start = 9
    rest = EndlessBatches(built, 0)
    rest.skip_iter(9)
    assert [next(rest) for _ in range(3)] == expected[9:]


def test_a_dataset_that_loads_whole_batches(first):
    built = loader(dataset=Subset(Drawn(), range(7)), infinite=True)
    assert next(iter(built)) == first[0]
