"""A run that dies loses nothing: checkpoints, their order, and the runs that go on from them."""

import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from denseclip_mm.engine import WholeFileBackend
from denseclip_mm.files import read_tensors

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend

SHORT = """
train_dataloader = dict(batch_size=2, num_workers={workers}, dataset=dict(
    image_size=64, pipeline=[
        dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers={workers}, persistent_workers={workers} > 0,
                      dataset=dict(image_size=64, length=2))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=8, val_interval=2)
model = dict(neck=dict(context_decoder=dict(dropout=0.3)))
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval={interval}, {options}))
randomness = dict(_delete_=True, seed={seed})
"""


@pytest.fixture
def config(tmp_path, small_demo) -> Callable[..., Path]:
    """Writes the config of a training of 8 steps with dropout and random colours."""
    def write(workers: int = 0, interval: int = 3, seed: int | None = 0,
              options: str = 'max_keep_ckpts=10') -> Path:
        path = tmp_path / f'small{workers}.py'
        path.write_text(small_demo + SHORT.format(
            workers=workers, interval=interval, seed=seed, options=options))
        return path
    return write


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_tensors(path)['state_dict']


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize(('workers', 'resumed', 'seed'), [(0, 2, 0), (2, 0, None)])
def test_a_resumed_run_equals_the_unbroken_one(workers, resumed, seed, config, tmp_path, succeed):
    """To the bit, with another number of data workers; also one whose seed was drawn."""
    whole = tmp_path / 'whole'
    succeed('train', config(workers, seed=seed), '--work-dir', whole, cwd=tmp_path)
    unbroken = weights(whole / 'iter_8.pth')
    for stopped in (3, 6):
        part = tmp_path / f'from{stopped}'
        part.mkdir()
        os.link(whole / f'iter_{stopped}.pth', part / f'iter_{stopped}.pth')
        random.seed(stopped)
        np.random.seed(stopped)
        torch.manual_seed(stopped)
        output = succeed('train', config(resumed, seed=seed), '--work-dir', part, '--resume',
                         cwd=tmp_path)
        assert 'will not equal' not in output and f'iter: {stopped}' in output
        assert_equal(unbroken, weights(part / 'iter_8.pth'))


BY_EPOCH = """
train_dataloader.update(sampler=dict(type='DefaultSampler'))
train_dataloader['dataset'].update(length=9)
train_cfg = dict(_delete_=True, type='{loop}', {length})
"""


@pytest.mark.parametrize(('loop', 'length'), [
    ('EpochBasedTrainLoop', 'max_epochs=2, val_interval=2'),
    ('IterBasedTrainLoop', 'max_iters=10, val_interval=10')])
def test_a_run_of_epochs_is_resumed_within_one(loop, length, config, tmp_path, succeed):
    """Each epoch has its own order, of 5 batches; also in loops that count iterations."""
    path = config()
    path.write_text(path.read_text() + BY_EPOCH.format(loop=loop, length=length))
    succeed('train', path, '--work-dir', 'whole', cwd=tmp_path)
    (tmp_path / 'part').mkdir()
    os.link(tmp_path / 'whole/iter_6.pth', tmp_path / 'part/iter_6.pth')
    output = succeed('train', path, '--work-dir', 'part', '--resume', cwd=tmp_path)
    assert 'will not equal' not in output
    assert_equal(*(weights(tmp_path / f'{folder}/iter_9.pth') for folder in ('whole', 'part')))


SLOW = """
import time
from denseclip_mm.demo.scenes import ScenesDataset
from mmseg.registry import DATASETS

loaded = []

@DATASETS.register_module(force=True)
class SlowScenes(ScenesDataset):
    def __getitem__(self, index):
        time.sleep(0.01)
        loaded.append(index)
        return super().__getitem__(index)
"""


def test_a_long_run_is_resumed_in_seconds(config, tmp_path, succeed, monkeypatch):
    """At iteration 70,000, where 140,000 samples of 10 ms each were seen."""
    (tmp_path / 'slow_scenes.py').write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    path = config()
    path.write_text(path.read_text() + """
custom_imports = dict(imports=['denseclip_mm', 'slow_scenes'])
train_dataloader['dataset'].update(type='SlowScenes')
""")
    succeed('train', path, '--work-dir', 'work', '--cfg-options', 'train_cfg.max_iters=3',
            cwd=tmp_path)
    checkpoint = tmp_path / 'work/iter_3.pth'
    content = read_tensors(checkpoint)
    content['meta']['iter'] = 70_000
    torch.save(content, tmp_path / 'work/iter_70000.pth')
    checkpoint.unlink()
    sys.modules['slow_scenes'].loaded.clear()
    output = succeed('train', path, '--work-dir', 'work', '--resume', '--cfg-options',
                     'train_cfg.max_iters=70001', cwd=tmp_path)
    assert len(sys.modules['slow_scenes'].loaded) == 2
    step = next(line for line in output.splitlines() if 'Iter(train) [70001/70001]' in line)
    waited = re.search(r' data_time: ([\d.]+)', step)  # since the loop began, in seconds
    assert float(waited[1]) < 10


def test_what_cannot_be_repeated_is_said(config, tmp_path, succeed):
    train = ['train', config(), '--cfg-options']
    succeed(*train, 'train_cfg.max_iters=3', '--work-dir', 'work', cwd=tmp_path)
    path = tmp_path / 'work/iter_3.pth'
    for option, fault in {
            'train_dataloader.batch_size=3': 'had batch_size=2, this one 3',
            'randomness.seed=7': 'had seed=0, this one 7',
            'optim_wrapper.accumulative_counts=2': 'between two steps of the optimiser',
            'log_level=INFO': 'another version of denseclip_mm wrote its checkpoint',
            'resume=False': 'its checkpoint holds no random state'}.items():
        content = read_tensors(path)
        if 'another version' in fault:
            content['random_state']['data']['num_workers'] = 0
        if 'no random state' in fault:
            del content['random_state']
        torch.save(content, path)
        output = succeed(*train, 'train_cfg.max_iters=4', option, '--work-dir', 'work', '--resume',
                         cwd=tmp_path)
        said = [line for line in output.splitlines() if 'will not equal the unbroken one' in line]
        assert len(said) == 1 and fault in said[0]
        (tmp_path / 'work/iter_4.pth').unlink()


class Died(BaseException):
    """Stands for SIGKILL."""


def test_the_old_checkpoint_goes_last(config, tmp_path, succeed):
    """Wherever saving dies, one checkpoint of each kind is whole; at the end there is one."""
    path = config(interval=2, options="max_keep_ckpts=1, save_best='mIoU', rule='less'")
    seen = []
    put = WholeFileBackend.put

    def watched(self: WholeFileBackend, obj: bytes, filepath: str) -> None:
        before = sorted(each.name for each in (tmp_path / 'work').glob('*.pth'))
        put(self, obj, filepath)
        seen.append((Path(filepath).name, before))

    with patch.object(WholeFileBackend, 'put', watched):
        succeed('train', path, '--work-dir', 'work', cwd=tmp_path)
    assert len(seen) >= 5
    for name, before in seen[1:]:
        assert any(each.startswith('iter_') for each in before), (name, before)
    kinds = [each.name.split('_')[0] for each in (tmp_path / 'work').glob('*.pth')]
    assert sorted(kinds) == ['best', 'iter']


def test_local_files_are_written_whole(tmp_path):
    target = tmp_path / 'deep/iter_1.pth'
    backend = get_file_backend(str(target))
    backend.put(b'old', str(target))
    with patch('os.replace', side_effect=Died), pytest.raises(Died):
        backend.put(b'new', target)
    backend.put_text('text', tmp_path / 'last')
    assert target.read_bytes() == b'old' and (tmp_path / 'last').read_text() == 'text'


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint(config, tmp_path, succeed, run_tool,
                                                                  full_disk):
    train = ['train', config(options='max_keep_ckpts=1'), '--work-dir', 'work']
    succeed(*train, '--cfg-options', 'train_cfg.max_iters=3', cwd=tmp_path)
    before = (tmp_path / 'work/iter_3.pth').read_bytes()
    with full_disk(200_000):
        done = run_tool(*train, '--resume', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ') and '[Errno 27]' in last and 'iter_6.pth' in last
    assert [each.name for each in (tmp_path / 'work').glob('*.pth')] == ['iter_3.pth']
    assert (tmp_path / 'work/iter_3.pth').read_bytes() == before


def test_resumes_from_the_newest_whole_checkpoint(config, tmp_path, succeed, run_tool):
    train = ['train', config(interval=2), '--work-dir', 'work']
    none = run_tool(*train, '--resume', cwd=tmp_path)
    assert none.returncode == 1
    assert none.stderr.startswith("error: there is no checkpoint to resume from in 'work'")

    succeed(*train, '--cfg-options', 'train_cfg.max_iters=6', cwd=tmp_path)
    newest = tmp_path / 'work/iter_6.pth'
    newest.write_bytes(newest.read_bytes()[:-1000])
    other = tmp_path / 'work/iter_4.pth'
    torch.save(dict(state_dict=weights(other)), other)
    (tmp_path / 'work/last_checkpoint').write_text('')
    output = succeed(*train, '--resume', cwd=tmp_path)
    skipped = [line for line in output.splitlines() if line.startswith('skipped: ')]
    assert len(skipped) == 2
    assert 'iter_4.pth is no checkpoint to resume from' in skipped[0]
    assert 'iter_6.pth is no checkpoint: it is cut short' in skipped[1]
    assert 'iter: 2' in output

    for path in (tmp_path / 'work').glob('*.pth'):
        path.write_bytes(b'')
    none = run_tool(*train, '--resume', cwd=tmp_path)
    assert none.returncode == 1 and none.stderr.count('it is empty') == 4
    assert len(none.stderr.strip().splitlines()) == 1
