from denseclip_mm.tensors import TANGLED, check_finite, check_kinds, is_in_file, tensors_in

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer


def test_tensors_wherever_they_lie():
    one, two, three = torch.ones(1), np.ones(2), torch.ones(3)
    history = HistoryBuffer(two, two)
    objects = np.array([{'a': three}, None], dtype=object)
    found = list(tensors_in({'a': [(one, 'text')], 'b': {1: history}, 'c': objects, one: None}))
    assert sum(each is one for each in found) == 2  # as a value and as a key
    assert any(each is three for each in found) and any(each is objects for each in found)
    assert sum(isinstance(each, np.ndarray) and each.tolist() == [1, 1] for each in found) == 2


def circle() -> list:
    inside: list = []
    inside.append(inside)
    return inside


def nested(levels: int, width: int) -> list:
    inner: list = []
    for _ in range(levels):
        inner = [inner] * width
    return inner


@pytest.mark.parametrize('content', [circle(), nested(200, 1), nested(60, 10), nested(5, 3000)],
                         ids=['circle', 'deep', 'many', 'wide'])
def test_what_has_no_end_is_refused(content):
    with pytest.raises(ValueError) as error:
        list(tensors_in(dict(optimizer=content)))
    assert str(error.value) == TANGLED


def test_arrays_larger_than_their_file():
    assert is_in_file(np.zeros(100), 800) and not is_in_file(np.zeros(101), 800)
    assert is_in_file(torch.zeros(9)[2:4], 0)  # whose storage is in the file
    assert not is_in_file(torch.zeros(1).expand(10**12), 10**6)


@pytest.mark.parametrize('kind', [
    torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.bool, torch.complex64])
def test_what_is_no_weight(kind):
    own = dict(weight=torch.zeros(2), count=torch.tensor(0))
    with pytest.raises(ValueError, match=r'^a\.pth holds numbers of another kind than the model '
                                         rf'\(1 tensors: weight is {str(kind)[6:]}, not float32\)'):
        check_kinds(dict(weight=torch.zeros(2).to(kind)), own, 'a.pth')


def test_kinds_that_are_weights():
    own = dict(weight=torch.zeros(2), count=torch.tensor(0))
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        check_kinds(dict(weight=torch.zeros(2, dtype=kind), other=torch.tensor(1)), own, 'a.pth')
    for kind in (torch.int32, torch.float32):  # averaged checkpoints have counts that are floats
        check_kinds(dict(count=torch.tensor(3, dtype=kind)), own, 'a.pth')
    with pytest.raises(ValueError, match='count is complex64, not int64'):
        check_kinds(dict(count=torch.tensor(3, dtype=torch.complex64)), own, 'a.pth')


def test_whole_numbers_are_finite():
    check_finite(dict(count=torch.tensor(3), flag=torch.tensor(True), text='x',
                      many=torch.zeros(2).to(torch.uint16)), 'a.pth')
