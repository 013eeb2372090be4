"""What a person reads of a training: the console, the summary at its end, the picture."""

import json
import logging
import re
from pathlib import Path

from denseclip_mm.engine.quiet_runner import for_the_console

import numpy as np
import pytest
from PIL import Image

FEW = """
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64))
val_dataloader = dict(dataset=dict(image_size=64, length=6))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=2)
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(interval=2, max_keep_ckpts=2, save_best='mIoU'))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, small_demo) -> Path:
    folder = tmp_path_factory.mktemp('run')
    (folder / 'small.py').write_text(small_demo + FEW)
    return folder


@pytest.fixture(scope='module')
def console(folder, succeed) -> list[str]:
    """What a training of four iterations says."""
    return succeed('train', 'small.py', '--work-dir', 'run', cwd=folder).splitlines()


def test_the_first_loss_is_soon_there(console, folder):
    """The console leaves out what the log file has."""
    first = next(place for place, line in enumerate(console) if 'Iter(train)' in line)
    assert first < 10, '\n'.join(console[:first])
    log, = (folder / 'run').rglob('*.log')
    text = log.read_text()
    for kept in ('System environment:', 'Config:', 'after_train_iter:',
                 'is skipped since its requires_grad=False', 'paramwise_options -- '):
        assert kept in text and kept not in '\n'.join(console)
    assert f'environment, config and every parameter: {log}' in console[0]
    assert 'UserWarning' not in '\n'.join(console)


def test_the_summary_is_what_was_logged(console, folder):
    """Best and last mIoU, classes by their IoU in the last table, files that are there."""
    told = dict(re.findall(r'INFO - ([\w ]+): (.*)$', '\n'.join(console), re.MULTILINE))
    scalars, = (folder / 'run').rglob('scalars.json')
    scores = [line['mIoU'] for line in map(json.loads, scalars.read_text().splitlines())
              if 'mIoU' in line]
    assert len(scores) == 2
    assert f'INFO - best mIoU {max(scores):.4g}, last {scores[-1]:.4g}' in '\n'.join(console)
    start = max(place for place, line in enumerate(console) if '|      Class' in line)
    table = {name.strip(): float(iou) for name, iou in re.findall(
        r'\|\s*([\w ]+?)\s*\|\s*([\d.]+|nan)\s*\|', '\n'.join(console[start:]))}
    order = sorted((iou, name) for name, iou in table.items() if not np.isnan(iou))
    for kind, end in (('best', order[:-4:-1]), ('worst', order[:3])):
        named = re.findall(r'([\w ]+?) ([\d.]+)(?:, |$)', told[f'{kind} classes by IoU'])
        assert [float(iou) for _, iou in named] == pytest.approx([iou for iou, _ in end], abs=0.06)
        assert all(table[name.strip()] == pytest.approx(float(iou), abs=0.06)
                   for name, iou in named)
    assert Path(told['last checkpoint']).name == 'iter_4.pth'
    assert Path(told['best checkpoint']).name.startswith('best_mIoU')
    for what in ('last checkpoint', 'best checkpoint', 'losses and scores', 'log'):
        assert Path(told[what]).exists()
    assert re.fullmatch(r'0 h \d min \d+ s, largest memory: \d+\.\d GiB.*', told['time'])


def test_a_resumed_run_draws_all_of_it(console, folder, succeed, monkeypatch):
    """The losses and scores from before are in the checkpoint."""
    with Image.open(folder / 'run/learning.png') as picture:
        assert picture.size == (1000, 400)
    (folder / 'run/iter_4.pth').unlink()
    drawn = {}
    monkeypatch.setattr('matplotlib.axes.Axes.plot', lambda axes, steps, values, **style: drawn.
                        __setitem__(style['label'], (list(steps), list(values))))
    succeed('train', 'small.py', '--work-dir', 'run', '--resume', cwd=folder)
    assert drawn['loss'][0] == [1, 2, 3, 4] and drawn['mIoU'][0] == [2, 4]
    logged = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', '\n'.join(console))]
    means = [np.mean(drawn['loss'][1][:count]) for count in (1, 2)]  # which the log has
    assert means == pytest.approx(logged[:2], abs=1e-3)


@pytest.mark.parametrize(('text', 'shown'), [
    ('Iter(train) [ 5/20]  loss: 1.7', True), ('per class results:', True),
    ('\n+------+\n| IoU |', True), ('Config:\nmodel = dict()', False),
    ('\n------------\nSystem environment:', False),
    ('backbone.conv1.weight is skipped since its requires_grad=False', False),
    ('paramwise_options -- neck.gamma:lr=0.1', False)])
def test_what_the_console_shows(text, shown):
    assert for_the_console(logging.makeLogRecord(dict(msg=text))) is shown
