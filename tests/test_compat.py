"""The two repairs of the OpenMMLab stack."""

import importlib.util
import sys

from denseclip_mm import compat

import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

NEEDS_STUB = digit_version(mmcv.__version__) < digit_version('2.2.0')


def test_stub_only_where_needed():
    assert ('mmcv._ext' in sys.modules) == NEEDS_STUB
    assert compat.stub_missing_ops() is False  # it is there, or was never needed


@pytest.mark.skipif(not NEEDS_STUB, reason='this mmcv is imported without compiled ops')
def test_stub_imports_and_refuses_calls():
    from mmcv.ops import point_sample, sigmoid_focal_loss  # noqa: F401
    with pytest.raises(RuntimeError, match=r"compiled op 'nms'.*install the full mmcv"):
        sys.modules['mmcv._ext'].nms(1)
    assert not hasattr(sys.modules['mmcv._ext'], '__path__')
    assert importlib.util.find_spec('mmcv._ext').loader is None


def test_stub_is_not_applied_twice_or_over_real_ops(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    monkeypatch.setattr(mmcv, '__version__', '2.1.0')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    assert compat.stub_missing_ops() is False
    assert 'mmcv._ext' not in sys.modules


def test_message_hub_survives_weights_only(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2])
    saved = dict(history=history, scalar=np.float64(0.5), count=np.int64(3),
                 array=np.arange(3.0), best_score=np.float32(7.5), flag=np.bool_(True))
    torch.save(saved, tmp_path / 'hub.pth')
    loaded = torch.load(tmp_path / 'hub.pth', weights_only=True)
    assert loaded['history'].mean() == pytest.approx(7 / 4)  # the logged values are sums
    assert loaded['history'].statistics('max') == 4.0
    assert loaded['scalar'] == 0.5 and loaded['count'] == 3
    assert loaded['best_score'] == 7.5 and loaded['flag']
    np.testing.assert_array_equal(loaded['array'], [0, 1, 2])


class Attack:
    """Pickles as getattr(torch.Tensor, 'tofile'), a way from data to code."""

    def __reduce__(self) -> tuple:
        """The call that unpickling would make."""
        return getattr, (HistoryBuffer, '__init__')


def test_checkpoint_may_look_up_statistics_only(tmp_path):
    torch.save(dict(attack=Attack()), tmp_path / 'attack.pth')
    with pytest.raises(Exception, match=r'__init__; only the statistics methods'):
        torch.load(tmp_path / 'attack.pth', weights_only=True)
    assert compat._history_buffer_method(HistoryBuffer, 'mean') is HistoryBuffer.mean
    with pytest.raises(ValueError, match='only the statistics methods'):
        compat._history_buffer_method(torch, 'mean')
