"""Which of several checkpoints a training goes on from."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checkpoints.resume import newest_checkpoint

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer


def write(path: Path, losses: Sequence[float], time: int = 0, **meta: Any) -> None:
    """A checkpoint after as many iterations as there are losses."""
    history = HistoryBuffer(list(losses), [1] * len(losses))
    torch.save(dict(
        state_dict={'weight': torch.ones(2)}, message_hub=dict(
            log_scalars={'train/loss': history}, runtime_info={}, resumed_keys={}),
        optimizer=dict(state={0: dict(exp_avg=torch.ones(2))}, param_groups=[dict(lr=0.1)]),
        meta={**dict(iter=len(losses), epoch=0, seed=7), **meta}), path)
    os.utime(path, (time, time))


RUN = [2.0, 1.5, float('nan'), 1.0]


@pytest.mark.parametrize('times', [(1, 2, 3), (5, 5, 5), (3, 2, 1), (2, 3, 1)],
                         ids=['as usual', 'equal', 'clock back', 'mixed'])
def test_the_last_of_a_run_whatever_the_clock_says(times, tmp_path):
    for count, time in zip((2, 3, 4), times, strict=True):
        write(tmp_path / f'{count}.pth', RUN[:count], time)
    path, meta, faults = newest_checkpoint(tmp_path)
    assert path.name == '4.pth' and (meta['iter'], meta['seed']) == (4, 7) and faults == []


def test_an_older_run_that_came_further_is_not_taken(tmp_path):
    write(tmp_path / 'iter_4.pth', [9.0, 8.0, 7.0, 6.0], time=1)
    write(tmp_path / 'iter_2.pth', RUN[:2], time=5)
    write(tmp_path / 'iter_3.pth', RUN[:3], time=4)
    assert newest_checkpoint(tmp_path)[0].name == 'iter_3.pth'


def test_the_best_is_no_place_to_go_on_from(tmp_path):
    write(tmp_path / 'iter_2.pth', RUN[:2])
    write(tmp_path / 'best_mIoU_iter_3.pth', RUN[:3])
    assert newest_checkpoint(tmp_path)[0].name == 'iter_2.pth'


def test_a_bit_that_changed_in_the_newest(tmp_path):
    """Which a look at what it says of itself does not show."""
    for count in (2, 3):
        write(tmp_path / f'{count}.pth', RUN[:count])
    content = bytearray((tmp_path / '3.pth').read_bytes())
    content[content.index(np.ones(2, np.float32).tobytes()) + 1] ^= 1
    (tmp_path / '3.pth').write_bytes(content)
    path, _, faults = newest_checkpoint(tmp_path)
    assert path.name == '2.pth'
    assert faults == [f'{tmp_path / "3.pth"} is no checkpoint: its bytes are not those that were '
                      'saved; fetch or copy it anew']


def numbers(key: str, value: object) -> str:
    return f'its meta has {key}={value!r}, not a number of 0 to 4,294,967,295'


@pytest.mark.parametrize(('change', 'fault'), [
    (lambda content: content.pop('optimizer'), 'it holds no state of an optimiser'),
    (lambda content: content.update(message_hub=[]), 'its message_hub is a list, not a dict'),
    (lambda content: content['message_hub'].pop('runtime_info'),
     'its message_hub has no dict of runtime_info'),
    *((lambda content, key=key, value=value: content['meta'].update({key: value}),
       numbers(key, str(value)))
      for key in ('iter', 'epoch', 'seed') for value in (-1, 2**70, 1.5, 'x', True)),
    (lambda content: content['meta'].pop('iter'), numbers('iter', 'None')),
    *((lambda content, saved=saved: content.update(param_schedulers=saved),
       'its param_schedulers are no list of dicts') for saved in (None, 0.5, [1], dict(a=3))),
    *((lambda content, saved=saved: content.update(param_schedulers=saved),
       "its param_schedulers have last_step=['x'], not numbers of steps")
      for saved in ([dict(last_step='x')], dict(a=[dict(_global_step=3, last_step='x')]))),
    *((lambda content, value=value: content['optimizer']['state'][0].update(
        exp_avg=torch.tensor([value, 0])), 'the state of its optimiser is NaN or infinite')
      for value in (float('nan'), float('inf'))),
    *((lambda content, rate=rate: content['optimizer']['param_groups'][0].update(lr=rate),
       f'its optimiser has learning rates that are none ([{rate!r}])')
      for rate in (-1, float('nan'), 'x', None)),
])
def test_what_would_lead_a_run_astray(change, fault, tmp_path):
    path = tmp_path / 'iter_2.pth'
    write(path, RUN[:2])
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)
    with pytest.raises(FileNotFoundError) as error:
        newest_checkpoint(tmp_path)
    assert str(error.value).endswith(f'{path} is no checkpoint to resume from: {fault}')


def test_what_a_training_writes(tmp_path):
    """A seed that was not noted; a scheduler whose turn has not come."""
    write(tmp_path / 'iter_2.pth', RUN[:2], seed=None)
    content = torch.load(tmp_path / 'iter_2.pth', weights_only=False)
    content['param_schedulers'] = [dict(last_step=2, _global_step=3),
                                   dict(last_step=-1, _global_step=3)]
    torch.save(content, tmp_path / 'iter_2.pth')
    assert newest_checkpoint(tmp_path)[1]['seed'] is None
