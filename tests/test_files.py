import io
import os
import pickle
import tarfile
import zipfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from denseclip_mm.clip import read_file
from denseclip_mm.files import UnreadableFileError, atomic_write, read_state_dict, read_tensors

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn


def test_target_appears_at_the_end_with_the_modes_of_any_file(tmp_path):
    target = tmp_path / 'new' / 'folder' / 'picture.png'
    with atomic_write(str(target)) as part:
        part.write_text('whole')
        assert part.name == 'picture.png' and not target.exists()
    assert target.read_text() == 'whole'
    assert os.listdir(target.parent) == ['picture.png']
    (tmp_path / 'other').write_text('')
    assert target.stat().st_mode == (tmp_path / 'other').stat().st_mode


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_target_as_it_was(error, tmp_path):
    target = tmp_path / 'result.json'
    target.write_text('old')
    with pytest.raises(error), atomic_write(target) as part:
        part.write_text('half')
        raise error
    assert target.read_text() == 'old' and os.listdir(tmp_path) == ['result.json']


def test_a_full_disk_names_the_target(tmp_path, full_disk):
    """Whoever writes: Python, NumPy, Pillow, PyTorch."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    writers = [lambda part: part.write_bytes(pixels.tobytes()), pixels.tofile,
               lambda part: Image.fromarray(pixels).save(part, 'PNG'),
               lambda part: torch.save(torch.rand(10_000), part)]
    target = tmp_path / 'result'
    target.write_text('old')
    for write in writers:
        with pytest.raises(OSError, match=r"\[Errno \d+\] .*result'$"), full_disk(1000), \
                atomic_write(target) as part:
            write(part)
    assert target.read_text() == 'old' and os.listdir(tmp_path) == ['result']


def test_writers_do_not_disturb_each_other(tmp_path):
    target, both_wrote = tmp_path / 'result.json', Barrier(2)

    def write(text):
        with atomic_write(target) as part:
            part.write_text(text)
            both_wrote.wait(30)
            assert part.read_text() == text

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, ['one', 'two']))
    assert target.read_text() in ('one', 'two') and os.listdir(tmp_path) == ['result.json']


def test_what_lies_beside_goes_along(tmp_path):
    with atomic_write(tmp_path / 'model.onnx') as part:
        part.write_text('graph')
        part.with_name('model.onnx.data').write_text('weights')
    assert sorted(os.listdir(tmp_path)) == ['model.onnx', 'model.onnx.data']


def test_folder(tmp_path):
    with atomic_write(tmp_path / 'camvid') as part:
        part.mkdir()
        (part / 'image').write_text('sky')
    assert (tmp_path / 'camvid' / 'image').read_text() == 'sky'
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError), atomic_write(tmp_path / 'file') as part:
        part.mkdir()
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / 'unwritten'):
        pass
    assert sorted(os.listdir(tmp_path)) == ['camvid', 'file']


ARCHIVE = 'it is an archive of something else; unpack it, and give the file in it'
DAMAGED = 'it is damaged, of another kind, or would run code when it is loaded, so it was not'


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        """What pickle calls, with which arguments."""
        return os.mkdir, (str(self.folder), )


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, 'weights')
    return file.getvalue()


def tarred(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo('model.pt'))
    return file.getvalue()


@pytest.mark.parametrize('name', ['rows.npy', 'rows.pt', 'rows.safetensors'])
def test_tensors_of_each_format(name, tmp_path):
    rows = torch.arange(6.).view(2, 3)
    path = tmp_path / name
    if path.suffix == '.npy':
        np.save(path, rows.numpy())
    elif path.suffix == '.pt':
        torch.save(rows, path)
    else:
        save_file({'rows': rows}, path)
    read = read_tensors(str(path))
    assert torch.equal(read['rows'] if path.suffix == '.safetensors' else read, rows)


@pytest.mark.parametrize(('name', 'content', 'fault'), [
    ('a.pth', b'', 'it is empty'),
    ('a.npy', b'', 'it is empty'),
    ('a.pth', b'hello world', "it is a text, 'hello world'"),  # KeyError: 101 in torch.load
    *((f'a.{kind}', page, 'it is a web page, as a download that failed leaves it; fetch the file '
       'anew') for kind in ('safetensors', 'pt') for page in (
           b'<!DOCTYPE html>\n404', b'\xef\xbb\xbf\r\n <html lang="en">\t<head>')),
    ('a.pt', zipped('model/weights.h5'), ARCHIVE),
    ('a.pt', tarred('w:gz'), ARCHIVE),
    ('a.bin', tarred('w'), ARCHIVE),
    ('a.pt', b'version https://git-lfs.github.com/spec/v1\noid sha256:0',
     'it is a pointer of Git LFS; "git lfs pull" fetches the file itself'),
    ('a.pth', saved(torch.zeros(99))[:-200], 'it is cut short; fetch or copy it anew'),
    ('a.pth', saved(torch.zeros(99), _use_new_zipfile_serialization=False)[:-200],
     'it is cut short; fetch or copy it anew'),
    ('a.pt', saved(torch.zeros(99), _use_new_zipfile_serialization=False)[:40],
     'it is cut short; fetch or copy it anew'),
    *(('a.safetensors', save({'a': torch.zeros(99)})[:size],
       'it is cut short; fetch or copy it anew') for size in (4, 20, 200)),
    ('a.pth', bytes(9), f'{DAMAGED} (UnpicklingError)'),
    ('a.safetensors', bytes(9), f'{DAMAGED} (SafetensorError)'),
    ('a.pth', b'\x89PNG\r\n\x1a\n', f'{DAMAGED} (UnpicklingError)'),
    ('a.pth', saved(Namespace()),
     'it would run code when it is loaded, so it was not (argparse.Namespace)'),
])
def test_files_that_are_no_tensors(name, content, fault, tmp_path, recwarn):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_tensors(path)
    assert str(error.value) == f'{path} is no checkpoint: {fault}'
    assert 'weights_only' not in str(error.value)  # torch's hint how the file would run
    assert error.value.__suppress_context__ and not recwarn.list  # no word of torch's own


@pytest.mark.parametrize('protocol', [1, 2, 4])
@pytest.mark.parametrize('wrap', ['torch.save', 'pickle', 'numpy'])
def test_code_in_a_file_is_not_run(wrap, protocol, tmp_path):
    made, path = tmp_path / 'made', tmp_path / ('file.npy' if wrap == 'numpy' else 'file.pt')
    content = {'a': torch.zeros(1), 'b': Payload(made)}
    if wrap == 'torch.save':
        torch.save(content, path, pickle_protocol=protocol)
    elif wrap == 'pickle':
        path.write_bytes(pickle.dumps(content, protocol))
    else:
        np.save(path, np.array(content))
    with pytest.raises(ValueError, match='run code when it is loaded, so it was not'):
        read_tensors(path, 'file of embeddings')
    assert not made.exists()


def test_numbers_of_numpy_1(tmp_path):
    """Which has the module under another name."""
    content = dict(state_dict={'weight': torch.ones(2)}, best=np.float32(0.5), rows=np.arange(3))
    torch.save(content, tmp_path / 'model.pth')
    with zipfile.ZipFile(tmp_path / 'model.pth') as new, \
            zipfile.ZipFile(tmp_path / 'old.pth', 'w') as old:
        for entry in new.namelist():
            old.writestr(entry, new.read(entry).replace(b'numpy._core', b'numpy.core'))
    read = read_tensors(tmp_path / 'old.pth')
    assert read['best'] == 0.5 and read['rows'].tolist() == [0, 1, 2]


@pytest.mark.parametrize('name', ['a.pth', 'constants.pkl'])
def test_an_archive_that_unpacks_to_far_more_than_its_size(name, tmp_path):
    path = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for number in range(9):
            with bomb.open(f'bomb/{number}{name}', 'w') as entry:
                entry.write(bytes(2**23))
    assert path.stat().st_size < 2**20
    with pytest.raises(UnreadableFileError, match='it would unpack to far more than its size'):
        read_file(path)


@pytest.mark.parametrize('tensor', [
    torch.zeros(1).expand(10**6, 10**6), torch.zeros(2, 2).to_sparse(),
    torch.zeros(2, device='meta')])
def test_tensors_of_which_the_file_has_no_numbers(tensor, tmp_path):
    for content in (tensor, {'weight': tensor}, {'state_dict': {'weight': tensor}},
                    {'optimizer': {'state': {0: [(tensor, )]}}}, {'ema_state_dict': {'a': tensor}},
                    {'message_hub': {'log_scalars': {'loss': {tensor: 1}}}}):
        torch.save(content, tmp_path / 'model.pth')
        with pytest.raises(UnreadableFileError, match='it would unpack to far more than its size'):
            read_tensors(tmp_path / 'model.pth')


def test_a_bit_that_changed_on_the_way(tmp_path):
    """Torch itself reads other weights then."""
    path, weight = tmp_path / 'model.pth', torch.arange(100.)
    torch.save({'weight': weight}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 50] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)['weight'], weight)
    with pytest.raises(UnreadableFileError, match='its bytes are not those that were saved; fetch'):
        read_tensors(path)


def test_a_look_at_an_archive_compares_no_check_sums(tmp_path):
    path, weight = tmp_path / 'model.pth', torch.arange(100.)
    for new in (True, False):
        torch.save(dict(weight=weight, meta=dict(iter=3)), path,
                   _use_new_zipfile_serialization=new)
        read = read_tensors(path, mapped=True)
        assert read['meta'] == dict(iter=3) and torch.equal(read['weight'], weight)


def test_lists_without_end(tmp_path):
    circle: list = []
    circle.append(circle)
    torch.save(dict(weight=torch.zeros(1), optimizer=circle), tmp_path / 'model.pth')
    with pytest.raises(UnreadableFileError, match=r'model\.pth is no checkpoint: it holds more '
                                                  r'than 10,000,000 entries, or more than 100 li'):
        read_tensors(tmp_path / 'model.pth')


def test_a_header_that_promises_more_rows_than_there_are(tmp_path):
    np.save(tmp_path / 'rows.npy', np.zeros((10, 10), np.float32))
    content = (tmp_path / 'rows.npy').read_bytes()
    (tmp_path / 'rows.npy').write_bytes(content.replace(b'(10, 10), }', b'(9999999, 9999999), }'))
    with pytest.raises(UnreadableFileError, match=r'rows\.npy is no checkpoint: it is damaged'):
        read_tensors(tmp_path / 'rows.npy')


def test_torchscript_is_not_run(tmp_path, recwarn):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / 'linear.pt')
    with pytest.raises(ValueError, match=r'linear.pt is no checkpoint: it is a TorchScript'):
        read_tensors(tmp_path / 'linear.pt')
    assert not [each for each in recwarn.list if 'jit.load' in str(each.message)]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file of rows '.*none.npy' \(looked"):
        read_tensors(tmp_path / 'none.npy', 'file of rows')
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        read_tensors(tmp_path)


def test_state_dict_bare_and_in_a_checkpoint(tmp_path):
    path, weight = tmp_path / 'model.pth', torch.ones(2)
    for content, meta in (({'weight': weight}, {}),
                          ({'module.weight': weight}, {}),
                          (dict(state_dict={'weight': weight}, meta=None), {}),
                          (dict(state_dict={'module.weight': weight}, meta=dict(a=1)), dict(a=1))):
        torch.save(content, path)
        state, said = read_state_dict(path)
        assert list(state) == ['weight'] and torch.equal(state['weight'], weight) and said == meta


@pytest.mark.parametrize(('content', 'fault'), [
    ([torch.zeros(1)], 'it holds no state dict'),
    (torch.zeros(1), 'it holds no state dict'),
    (dict(state_dict=torch.zeros(2)), 'it holds no state dict'),
    ({}, 'it holds no state dict'),
    ({'state_dict': None}, 'it holds no state dict'),
    ({'state_dict': [1, 2]}, 'it holds no state dict'),
    ({0: torch.zeros(1)}, 'it holds no state dict'),
    (dict(state_dict={'weight': torch.zeros(1)}, meta=[1]), 'its meta is a list, not a dict'),
    (dict(state_dict={'weight': torch.zeros(1)}, meta=[]), 'its meta is a list, not a dict'),
    *((dict(state_dict={'weight': torch.zeros(1)}, meta=meta), fault) for meta, fault in [
        (dict(dataset_meta=5), 'its dataset_meta is a int, not a dict'),
        (dict(dataset_meta=torch.zeros(2)), 'its dataset_meta is a Tensor, not a dict'),
        (dict(dataset_meta=dict(classes=5)), 'its classes are no list of names (int)'),
        (dict(dataset_meta=dict(classes='sky')), 'its classes are no list of names (str)'),
        (dict(CLASSES=('sky', None)), 'its classes are no list of names (tuple)'),
        (dict(CLASSES=('sky', ), PALETTE=[5]),
         'its palette is no list of colours (three numbers of 0 to 255 each)'),
        (dict(dataset_meta=dict(classes=['sky'], palette=[[0, 0, 'x']])),
         'its palette is no list of colours (three numbers of 0 to 255 each)')]),
])
def test_files_without_a_state_dict(content, fault, tmp_path):
    torch.save(content, tmp_path / 'model.pth')
    with pytest.raises(ValueError) as error:
        read_state_dict(tmp_path / 'model.pth', 'file of CLIP weights')
    assert str(error.value) == f'{tmp_path / "model.pth"} is no file of CLIP weights: {fault}'
