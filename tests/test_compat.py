"""Repairs of the OpenMMLab stack; how configs are inherited by name: test_wheel.py."""

import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from denseclip_mm import compat
from denseclip_mm.files import UnreadableFileError, read_tensors

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint

needs_stub = pytest.mark.skipif(not isinstance(sys.modules.get('mmcv._ext'), compat._MissingOps),
                                reason='this mmcv has compiled ops')


def test_stub_only_where_needed():
    assert compat.stub_missing_ops() is False  # it is there, or was never needed


@needs_stub
def test_stub_imports_and_refuses_calls():
    from mmcv.ops import point_sample, sigmoid_focal_loss  # noqa: F401
    with pytest.raises(RuntimeError, match=r"compiled op 'softnms'.*install the full mmcv"):
        sys.modules['mmcv._ext'].softnms(1)
    assert not hasattr(sys.modules['mmcv._ext'], '__path__')
    assert importlib.util.find_spec('mmcv._ext').loader is None


def test_stub_is_not_applied_twice_or_over_real_ops(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    assert compat.stub_missing_ops() is False
    assert 'mmcv._ext' not in sys.modules


def test_message_hub_survives_a_strict_read(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2])
    saved = dict(history=history, scalar=np.float64(0.5), count=np.int64(3),
                 array=np.arange(3.0), best_score=np.float32(7.5), flag=np.bool_(True))
    torch.save(saved, tmp_path / 'hub.pth')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'hub.pth'), 'cpu')
    assert loaded['history'].mean() == pytest.approx(7 / 4)  # the logged values are sums
    assert loaded['history'].statistics('max') == 4.0
    assert loaded['scalar'] == 0.5 and loaded['count'] == 3
    assert loaded['best_score'] == 7.5 and loaded['flag']
    np.testing.assert_array_equal(loaded['array'], [0, 1, 2])
    with pytest.raises(pickle.UnpicklingError):  # our own loads alone know these names
        torch.load(tmp_path / 'hub.pth', weights_only=True)


class Payload:
    """A call that unpickling makes."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        """The call."""
        return self.call


def test_checkpoint_may_look_up_statistics_only(tmp_path):
    torch.save(dict(attack=Payload(getattr, HistoryBuffer, '__init__')), tmp_path / 'attack.pth')
    with pytest.raises(UnreadableFileError, match='run code when it is loaded, so it was not'):
        read_tensors(tmp_path / 'attack.pth')
    assert compat._history_buffer_method(HistoryBuffer, 'mean') is HistoryBuffer.mean
    with pytest.raises(ValueError, match='only the statistics methods'):
        compat._history_buffer_method(torch, 'mean')


@pytest.mark.parametrize('address', [
    '{path}', 'http://127.0.0.1/{name}', 'https://127.0.0.1/{name}', 'torchvision://{name}',
    'open-mmlab://{name}', 'openmmlab://{name}', 'mmcls://{name}', 's3://{path}', 'pavi://{name}'])
@pytest.mark.parametrize('write', [
    torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))],
    ids=['torch.save', 'pickle'])
def test_no_scheme_of_mmengine_runs_code(address, write, tmp_path, monkeypatch):
    """Downloads are there already, as a second run finds them."""
    path, made = tmp_path / 'hub' / 'checkpoints' / 'model.pth', tmp_path / 'made'
    path.parent.mkdir(parents=True)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    urls = {'model.pth': 'http://127.0.0.1/model.pth'}
    module = sys.modules[CheckpointLoader.__module__]
    for listed in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(module, listed, lambda: urls)
    monkeypatch.setattr(module, 'get_deprecated_model_names', dict)
    monkeypatch.setattr(module, 'get_file_backend', lambda *_, **__: SimpleNamespace(
        get=lambda _: path.read_bytes()))
    cloud = SimpleNamespace(get=lambda _: SimpleNamespace(
        name='model.pth', download=lambda to: Path(to).write_bytes(path.read_bytes())))
    monkeypatch.setitem(sys.modules, 'pavi', SimpleNamespace(modelcloud=cloud))
    address = address.format(path=path, name=path.name)
    write(dict(state_dict=Payload(os.mkdir, str(made))), path)
    with pytest.raises(UnreadableFileError, match='run code when it is loaded, so it was not') as e:
        CheckpointLoader.load_checkpoint(address, 'cpu')
    assert not made.exists() and str(e.value).startswith(f'{address} is no checkpoint: ')
    torch.save(dict(state_dict={'backbone.weight': torch.ones(2)},
                    meta=dict(config='1 / 0', cfg='a = 1', iter=3)), path)
    loaded = CheckpointLoader.load_checkpoint(address, 'cpu')
    assert [each.tolist() for each in loaded['state_dict'].values()] == [[1, 1]]
    if 'meta' in loaded:  # torchvision's and mmcls's loaders give the weights alone
        assert loaded['meta'] == dict(cfg='a = 1', iter=3)  # Runner.resume would run the other


@pytest.mark.parametrize('content', [[], torch.zeros(2), dict(state_dict={}, meta=[])])
def test_mmengine_is_given_checkpoints_only(content, tmp_path):
    torch.save(content, tmp_path / 'model.pth')
    with pytest.raises(UnreadableFileError, match=r'model\.pth is no checkpoint: '):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'model.pth'), 'cpu')


def test_an_inferencer_runs_no_config_of_the_weights(tmp_path):
    from mmseg.apis import MMSegInferencer
    made = tmp_path / 'made'
    program = f'import os\nos.mkdir({str(made)!r})\nmodel = dict()'
    torch.save(dict(state_dict={'weight': torch.ones(2)}, meta=dict(cfg=program), message_hub=dict(
        runtime_info=dict(cfg=program))), tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=r'the config in .*model\.pth is a program of whoever '
                                         'wrote the file, so it was not run; give .* as model='):
        MMSegInferencer(None, weights=str(tmp_path / 'model.pth'), device='cpu')
    assert not made.exists()


def test_mmengine_takes_no_whole_numbers_for_weights(tmp_path):
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.clone()
    torch.save(dict(state_dict=dict(weight=torch.ones(2, 2).long())), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='the checkpoint holds numbers of another kind'):
        load_checkpoint(layer, str(tmp_path / 'a.pth'))
    assert torch.equal(layer.weight, before)
    torch.save(dict(state_dict=dict(weight=torch.ones(2, 2).half())), tmp_path / 'a.pth')
    load_checkpoint(layer, str(tmp_path / 'a.pth'))
    assert layer.weight.tolist() == [[1, 1], [1, 1]]
