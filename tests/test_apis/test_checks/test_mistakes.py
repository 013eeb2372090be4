"""Mistakes end in one line: who is told what, and what keeps its trace."""

import signal
from pathlib import Path
from pickle import UnpicklingError

from denseclip_mm.apis.checks.config import load_config
from denseclip_mm.apis.checks.mistakes import one_line

import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import MODELS


def line(code: str, *, traceback: bool = False, started: bool = False, **known: object) -> str:
    """The line in which some code ends, run as a tool's."""
    with pytest.raises(SystemExit) as stop, one_line(traceback) as first:
        first.done = started
        exec(code, {'__name__': 'tool', **known})
    assert '\n' not in stop.value.code
    return stop.value.code


def test_what_is_expected_is_told_as_it_is() -> None:
    assert line("raise OSError(28, 'No space left on device', 'a.png')", started=True) == (
        "error: [Errno 28] No space left on device: 'a.png'")
    with pytest.raises(SystemExit, match='error: cannot convert a: no such thing'), \
            one_line(False, 'cannot convert a: '):
        raise ValueError('no such thing')


@pytest.mark.parametrize('options', [dict(traceback=True), dict(started=True)])
def test_what_keeps_its_trace(options: dict[str, bool]) -> None:
    """A bug in the middle of a run; everything where the user asks for it."""
    with pytest.raises(ZeroDivisionError):
        line('1 / 0', **options)


def stopped_by(code: str) -> int:
    """The exit code of a tool that is stopped, as it would be by a signal."""
    with pytest.raises(SystemExit) as stop, one_line(False, stopped=lambda: 'half is there'):
        exec(code)
    return stop.value.code


@pytest.mark.parametrize(('code', 'number'), [
    ('raise KeyboardInterrupt', 130),
    ('import os, signal; os.kill(os.getpid(), signal.SIGINT)', 130),
    ('import os, signal; os.kill(os.getpid(), signal.SIGTERM)', 143),
    # What mmengine makes of it around yapf, and PyTorch of workers that died of it.
    ('try: raise KeyboardInterrupt\nexcept BaseException: raise SyntaxError("yapf")', 130),
    ('try: raise KeyboardInterrupt(15)\nfinally: raise RuntimeError("killed") from None', 143),
])
def test_stopped(code: str, number: int, capsys: pytest.CaptureFixture) -> None:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGCHLD)}
    assert handlers[signal.SIGTERM] is signal.SIG_DFL
    assert stopped_by(code) == number
    assert capsys.readouterr().err == 'stopped: half is there\n'
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGCHLD, handlers[signal.SIGCHLD])


def test_a_stop_with_its_trace() -> None:
    with pytest.raises(KeyboardInterrupt), one_line(True):
        raise KeyboardInterrupt


class Metric(BaseMetric):
    """Makes no figure of what it is given."""

    def process(self, data_batch: object, data_samples: object) -> None:
        """Keep nothing."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Look for the classes."""
        return self.dataset_meta['classes']


def test_figures_that_cannot_be_made_are_a_mistake_the_first_time() -> None:
    """A training is under way by then; what no longer works after it did is a bug."""
    evaluator = Evaluator(Metric())
    evaluator.dataset_meta = {}
    assert line('evaluator.evaluate(0)', started=True, evaluator=evaluator).startswith(
        'error: KeyError: classes (')
    with pytest.raises(KeyError), one_line(False) as first:
        first.after_train_iter()
        first.after_val_epoch()
        evaluator.evaluate(0)


def test_a_data_worker_quotes_its_trace() -> None:
    text = ('Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
            "last):\n  File 'a.py', line 1\nOSError: a.png is damaged\n")
    for started in (False, True):
        assert line('raise OSError(text)', text=text, started=started) == (
            'error: OSError: a.png is damaged')


def test_no_hint_to_run_what_is_in_a_checkpoint() -> None:
    told = line('raise UnpicklingError("re-running `torch.load` with `weights_only` set to '
                '`False` will likely succeed")',
                UnpicklingError=UnpicklingError)
    assert 'weights_only' not in told and 'would run code' in told


@pytest.mark.parametrize(('model', 'told'), [
    (dict(type='LearnedContxt'),
     "model: KeyError: LearnedContxt is not in the mmengine::model registry; did you mean "
     "'LearnedContext'?"),
    (dict(type='EncoderDecoder', decode_head=None,
          backbone=dict(type='CLIPResNet', model='RN50', imagesize=3)),
     "model.backbone: TypeError: CLIPResNet.__init__() got an unexpected keyword argument "
     "'imagesize'; did you mean 'image_size'?"),
    (dict(type='ScoreMapHead', num_classes=3, in_channels=256),  # as merged with another head
     "model: TypeError: ScoreMapHead.__init__() got an unexpected keyword argument 'in_channels'; "
     'if it is left over from a base of the config, _delete_=True in this entry drops what the '
     'base has ('),
    (dict(type='CLIPResNet', model='RN50', contract_dilation=True),
     "model: TypeError: CLIPResNet.__init__() got an unexpected keyword argument "
     "'contract_dilation'; if it is left over from a base of the config, _delete_=True"),
    (dict(type='FPN', in_channels=3, out_channels=4, num_outs=1),
     'model: AssertionError: assert isinstance(in_channels, list)'),
])
def test_the_key_is_named(model: dict, told: str) -> None:
    code = 'def build(cfg):\n    return MODELS.build(cfg.model)\nbuild(cfg)'
    cfg = Config(dict(default_scope='mmseg', model=model))
    told_us = line(code, cfg=cfg, MODELS=MODELS)
    assert told_us.replace('mmseg::', 'mmengine::').startswith(f'error: {told}'), told_us
    assert told_us.endswith('(--traceback shows the rest)')


def test_a_type_of_another_scope_is_its_own() -> None:
    """Two packages have a class of a name."""
    class Loss:
        __module__ = 'mmdet.models.losses'

        def __call__(self) -> None:
            raise IndexError('weights')

    cfg = Config(dict(decode_head=dict(loss=dict(type='mmdet.Loss')),
                      auxiliary_head=dict(loss=dict(type='Loss'))))
    code = 'def run(cfg):\n    loss()\nrun(cfg)'
    assert line(code, cfg=cfg, loss=Loss()).startswith('error: decode_head.loss: IndexError')
    Loss.__module__ = 'mmseg.models.losses'
    assert line(code, cfg=cfg, loss=Loss()).startswith('error: auxiliary_head.loss: IndexError')


def test_circles_and_lines_of_config_files(tmp_path: Path) -> None:
    one, two = tmp_path / 'one.py', tmp_path / 'two.py'
    one.write_text("_base_ = './two.py'")
    two.write_text("_base_ = './one.py'")
    load = f'load({str(one)!r}, options=None, launcher="none", work_dir=None)'
    assert line(load, load=load_config) == (
        f'error: {one} has the base {two} has the base {one}: a circle; take one of them out')
    two.write_text('first = 1\nsecond = thrid\n')
    assert line(load, load=load_config) == (
        f"error: {two}, a base of {one}, line 2: NameError: name 'thrid' is not defined "
        '(--traceback shows the rest)')
    two.write_text('first = (\n')
    told = line(load, load=load_config)
    assert told.startswith(f'error: {tmp_path}') and f'two.py, a base of {one}: ' in told
    assert "SyntaxError: '(' was never closed (line 1)" in told
    one.write_text('first = (\n')
    assert line(load, load=load_config).startswith(f'error: {one}: SyntaxError: ')
