"""TorchScript archives, read without running them."""

import pickle
import zipfile
from pathlib import Path

from denseclip_mm.clip import read_file
from denseclip_mm.files import UnreadableFileError
from denseclip_mm.torchscript import is_torchscript, read_archive

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """A CLIP-like block with whatever an archive may hold beside parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.mlp = nn.Sequential(nn.Linear(8, 16, bias=False), nn.GELU(), nn.Linear(16, 8))
        self.bn = nn.BatchNorm1d(8)
        self.turned = nn.Parameter(torch.randn(3, 8).t())
        self.nothing = nn.Parameter(torch.zeros(0))
        self.mask = torch.ones(8)  # an attribute, which no state dict has
        self.sizes, self.named = [1, 2], {'a': 1}
        self.register_buffer('table', torch.arange(6).view(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8) to (N, 8)."""
        x = self.bn(x) + self.mask + self.turned.sum() + self.table[0, self.sizes[0]]
        tokens = F.linear(x, self.attn.in_proj_weight, self.attn.in_proj_bias)
        query, key, value = tokens.chunk(3, 1)
        attended = self.attn.out_proj((query @ key.t()).softmax(1) @ value)
        return self.mlp(attended * self.named['a'])


class CLIP(nn.Module):
    """Two towers, and the marks of OpenAI's archives."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(Block(), Block())
        self.transformer = Block()
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        for mark in ('input_resolution', 'context_length', 'vocab_size'):
            self.register_buffer(mark, torch.tensor(77))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8) to (N, N)."""
        return self.logit_scale.exp() * self.visual(x) @ self.transformer(x).t()


class WritesAFile(nn.Module):
    """Its archive writes a file as it loads."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        """What is saved."""
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, saved: tuple[str, bool]) -> None:
        """Runs in torch.jit.load."""
        self.path, self.training = saved
        written = torch.from_file(self.path, True, 4, dtype=torch.uint8)
        written.copy_(torch.tensor([33, 33, 33, 33], dtype=torch.uint8))
        self.training = bool(written[0] == 0)

    def forward(self) -> int:
        """Nothing."""
        return 0


@pytest.mark.parametrize('kind', ['script', 'trace'])
@pytest.mark.parametrize('half', [True, False])
def test_names_and_numbers_are_those_of_torch_jit_load(kind, half, tmp_path):
    torch.manual_seed(0)
    model = CLIP().eval()
    program = torch.jit.script(model) if kind == 'script' else torch.jit.trace(
        model, torch.randn(4, 8))
    torch.jit.save(program.half() if half else program, tmp_path / 'clip.pt')
    expected = torch.jit.load(tmp_path / 'clip.pt', map_location='cpu').state_dict()
    state = read_archive(tmp_path / 'clip.pt')
    assert is_torchscript(tmp_path / 'clip.pt') and list(state) == list(expected)
    assert set(state) == set(model.state_dict())
    for key, value in expected.items():
        assert state[key].dtype == value.dtype and torch.equal(state[key], value), key


def test_a_program_is_not_run(tmp_path):
    victim, path = tmp_path / 'victim', tmp_path / 'clip.pt'
    victim.write_text('safe')
    torch.jit.save(torch.jit.script(WritesAFile(str(victim))), path)
    with pytest.raises(UnreadableFileError, match=r'clip\.pt is no file of CLIP weights: it '):
        read_file(path)
    assert victim.read_text() == 'safe'
    torch.jit.load(path)  # which does run it
    assert victim.read_text() == '!!!!'


def rewritten(source: Path, target: Path, records: dict[str, bytes]) -> Path:
    """An archive with other records."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for name in old.namelist():
            new.writestr(name, records.get(name.partition('/')[2], old.read(name)))
    return target


@pytest.fixture
def linear(tmp_path) -> Path:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / 'linear.pt')
    return tmp_path / 'linear.pt'


def test_a_program_that_lists_no_buffers(linear, tmp_path):
    """As torch before 1.6 writes it."""
    with zipfile.ZipFile(linear) as archive:
        code = next(name for name in archive.namelist() if name.endswith('.py')
                    and b'__parameters__' in archive.read(name))
        text = archive.read(code)
    assert b'  __buffers__ = []\n' in text
    path = rewritten(linear, tmp_path / 'old.pt', {
        code.partition('/')[2]: text.replace(b'  __buffers__ = []\n', b'')})
    assert list(read_archive(path)) == ['weight', 'bias']


@pytest.mark.parametrize(('pickled', 'fault'), [
    (b'cos\nsystem\n(S"touch made"\ntR.', r'it would run code .* \(os.system\)'),
    (b'c__builtin__\neval\n(S"1"\ntR.', r'it would run code .* \(__builtin__.eval\)'),
    (b'ctorch.storage\n_load_from_bytes\n(S"1"\ntR.', 'it would run code'),
    (pickle.dumps({'weight': 1}), 'it is damaged'),
    (b'\x80\x02c__torch__\nM\n)\x81}s.', 'it is damaged'),
    (b'\x80\x02]r\xff\xff\xff\x7f.', 'it is damaged'),  # 64 GB for the unpickler in C
])
def test_other_pickles_are_refused(linear, pickled, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = rewritten(linear, tmp_path / 'changed.pt', {'data.pkl': pickled})
    with pytest.raises(UnreadableFileError, match=f'no file of CLIP weights: {fault}'):
        read_file(path)
    assert not (tmp_path / 'made').exists()


def test_modules_that_hold_each_other(linear, tmp_path):
    """Twice 2^40 modules, and one within itself, from a hundred bytes."""
    with zipfile.ZipFile(linear) as archive:
        kind = archive.read('linear/data.pkl')[2:].decode('latin-1').partition('q')[0] + ')\x81'
    leaf = f'{kind}}}(S"weight"\nNS"bias"\nNubp0\n0'
    for level in range(40):
        leaf += f'{kind}}}(S"weight"\nNS"bias"\nNS"a"\ng{level}\nS"b"\ng{level}\nubp{level + 1}\n0'
    within = f'{kind}p0\n}}(S"weight"\nNS"bias"\nNS"a"\ng0\nub.'
    for pickled in (f'{leaf}g40\n.', within):
        path = rewritten(linear, tmp_path / 'changed.pt', {
            'data.pkl': b'\x80\x02' + pickled.encode('latin-1')})
        with pytest.raises(ValueError, match='its modules hold each other'):
            read_archive(path)


def test_a_tensor_larger_than_its_storage(linear, tmp_path):
    with zipfile.ZipFile(linear) as archive:
        pickled = archive.read('linear/data.pkl')
    size, strides = b'(K\x02K\x02t', b'(K\x02K\x01t'  # of the weight
    assert size in pickled and strides in pickled
    pickled = pickled.replace(strides, b'(K\x00K\x00t')
    path = rewritten(linear, tmp_path / 'changed.pt', {
        'data.pkl': pickled.replace(size, b'(J\xff\xff\xff\x00J\xff\xff\xff\x00t')})
    with pytest.raises(ValueError, match='a tensor is larger than its storage'):
        read_archive(path)
