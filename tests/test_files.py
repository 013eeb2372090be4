import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from denseclip_mm.files import whole_file

import pytest


def test_target_appears_at_the_end_with_the_modes_of_any_file(tmp_path):
    target = tmp_path / 'new' / 'folder' / 'picture.png'
    with whole_file(str(target)) as part:
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
    with pytest.raises(error), whole_file(target) as part:
        part.write_text('half')
        raise error
    assert target.read_text() == 'old' and os.listdir(tmp_path) == ['result.json']


def test_writers_do_not_disturb_each_other(tmp_path):
    target, both_wrote = tmp_path / 'result.json', Barrier(2)

    def write(text):
        with whole_file(target) as part:
            part.write_text(text)
            both_wrote.wait(30)
            assert part.read_text() == text

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, ['one', 'two']))
    assert target.read_text() in ('one', 'two') and os.listdir(tmp_path) == ['result.json']


def test_what_lies_beside_goes_along(tmp_path):
    with whole_file(tmp_path / 'model.onnx') as part:
        part.write_text('graph')
        part.with_name('model.onnx.data').write_text('weights')
    assert sorted(os.listdir(tmp_path)) == ['model.onnx', 'model.onnx.data']


def test_folder(tmp_path):
    with whole_file(tmp_path / 'camvid') as part:
        part.mkdir()
        (part / 'image').write_text('sky')
    assert (tmp_path / 'camvid' / 'image').read_text() == 'sky'
    (tmp_path / 'file').write_text('')
    with pytest.raises(NotADirectoryError), whole_file(tmp_path / 'file') as part:
        part.mkdir()
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / 'unwritten'):
        pass
    assert sorted(os.listdir(tmp_path)) == ['camvid', 'file']
