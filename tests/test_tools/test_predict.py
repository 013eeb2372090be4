"""tools/predict.py: a folder with a video and a broken file, then what is refused."""

import csv
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.apis.inference import Predictor
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import pytest
import torch
from mmseg.apis import init_model
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
NAMES = ['grass', 'red star;crimson star', 'water', 'snow', 'sand', 'brick wall', 'wooden floor']


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
            run_tool: Callable) -> Callable[..., str | None]:
    """Runs the tool as from a command line in ``tmp_path``; returns the error that it ends with."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> str | None:
        done = run_tool('predict', *words, cwd=tmp_path)
        sys.stdout.write(done.stdout)
        if done.returncode == 0:
            return None
        return done.stderr[done.stderr.index('error: '):].removesuffix('\n')  # after the progress
    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a video of three frames and a broken picture."""
    (tmp_path / 'in/below').mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(tmp_path / f'in/scene.{index}.png'), draw(3, index, 128)[0])
    video = cv2.VideoWriter(str(tmp_path / 'in/below/clip.avi'),
                            cv2.VideoWriter_fourcc(*'MJPG'), 10, (128, 96))
    for index in range(3):
        video.write(draw(4, index, 128)[0][:96])
    video.release()
    (tmp_path / 'in/broken.jpg').write_bytes(b'no picture')
    return tmp_path / 'in'


def test_a_folder(predict: Callable, folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = [ZERO_SHOT, 'none', 'in', '--out', 'in/out', '--classes', ', '.join(NAMES)]
    out = folder / 'out'
    message = predict(*words)
    assert message.startswith('error: left out\nin/broken.jpg: in/broken.jpg is no picture')
    printed = capsys.readouterr().out
    assert '7 classes, answered by the score map' in printed and 'wrote 3 of 4' in printed
    assert 'this CLIP has seen procedural scenes only' in printed

    predictor = Predictor(ZERO_SHOT, device='cpu', class_names=NAMES)
    expected = predictor(folder / 'scene.1.png')
    labels = Image.open(out / 'labels/scene.1.png')
    assert np.array_equal(np.asarray(labels), expected.labels)
    assert np.array_equal(np.asarray(labels.convert('RGB')),
                          np.array(expected.palette, np.uint8)[expected.labels])
    overlay = np.asarray(Image.open(out / 'overlays/scene.1.png'))
    assert overlay.shape[0] > 512 and overlay.shape[1] == 512  # four times as large, and a legend
    assert np.array_equal(overlay[:512:4, ::4], expected.overlay())
    for label in expected.shares():
        assert (overlay[512:] == expected.palette[label]).all(-1).sum() > 20  # a swatch
    with (out / 'shares.csv').open(newline='') as stream:
        shares = [row for row in csv.DictReader(stream) if row['picture'] == 'scene.1']
    assert {row['name']: float(row['share']) for row in shares} == pytest.approx(
        {NAMES[label]: share for label, share in expected.shares().items()}, abs=1e-6)
    assert Image.open(out / 'score_maps/scene.1.png').width > 500
    legend = json.loads((out / 'classes.json').read_text())
    assert legend['classes'] == NAMES and legend['labelled_by'] == 'score map'
    assert [tuple(colour) for colour in legend['palette']] == expected.palette

    video = cv2.VideoCapture(str(out / 'overlays/below/clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and video.get(cv2.CAP_PROP_FPS) == 10
    there, frame = video.read()
    source = cv2.VideoCapture(str(folder / 'below/clip.avi')).read()[1][..., ::-1]
    assert there and np.abs(predictor(source).overlay()[..., ::-1] - frame.astype(int)).mean() < 8
    frames = sorted((out / 'labels/below/clip').glob('*.png'))
    assert [path.name for path in frames] == ['000000.png', '000001.png', '000002.png']
    assert np.array_equal(np.asarray(Image.open(frames[0])), predictor(source).labels)

    # Again: what is done stays; what was removed comes back.
    times = {path: path.stat().st_mtime_ns for path in out.rglob('*.*')
             if path.suffix not in ('.json', '.csv')}
    (out / 'overlays/scene.0.png').unlink()
    assert predict(*words).startswith('error: left out\nin/broken.jpg')
    for path, time in times.items():
        assert 'scene.0' in path.name or path.stat().st_mtime_ns == time, path
    assert (out / 'overlays/scene.0.png').is_file()
    assert not list(folder.rglob('*part*'))

    # Other classes would mix two legends.
    assert 'choose another --out' in predict(*words[:-1], 'sea, sky')
    assert json.loads((out / 'classes.json').read_text()) == legend


def test_libraries_warn_of_nothing_that_a_user_could_change(predict: Callable, folder: Path
                                                            ) -> None:
    """Two names, one of letters that no font of matplotlib has; all models are built quietly."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert predict(ZERO_SHOT, 'none', 'in/scene.0.png', '--classes', '猫 🐈, snow') is None
    assert [str(each.message) for each in said if issubclass(each.category, UserWarning)] == []


def test_more_classes_than_a_byte_holds(predict: Callable, folder: Path) -> None:
    (folder.parent / 'many.txt').write_text('\n'.join(f'thing {i}' for i in range(257)))
    assert predict(ZERO_SHOT, 'none', 'in/scene.0.png', '--classes', 'many.txt') is None
    labels = np.asarray(Image.open('predicted/labels/scene.0.png'))
    assert labels.dtype == np.uint16
    predictor = Predictor(ZERO_SHOT, device='cpu', class_names='many.txt')
    assert np.array_equal(labels, predictor(folder / 'scene.0.png').labels)


def test_an_odd_picture_does_not_stop_the_rest(predict: Callable, folder: Path) -> None:
    cv2.imwrite('in/narrow.png', np.zeros((600, 4, 3), np.uint8))
    message = predict(ZERO_SHOT, 'none', 'in/*', '--out', 'in/out', '--outputs', 'labels')
    assert 'in/narrow.png: ' in message and 'in/broken.jpg' in message
    assert sorted(path.name for path in Path('in/out/labels').glob('*')) == [
        'scene.0.png', 'scene.1.png']  # the glob takes no folder, and nothing of the output


def test_every_kind_of_picture_is_read_or_named(predict: Callable, tmp_path: Path) -> None:
    """By the file's content, whatever its ending; other files are no pictures."""
    Path('in').mkdir()
    scene = Image.fromarray(draw(3, 0, 128)[0][..., ::-1])
    for number, (ending, kind) in enumerate(dict(
            jfif='JPEG', gif='GIF', ppm='PPM', jp2='JPEG2000', avif='AVIF', tga='TGA', pcx='PCX',
            ico='ICO', png='PNG', jpe='JPEG').items()):
        scene.save(f'in/{number}.{ending}', kind)
    scene.convert('L').save('in/grey.JPG')
    Path('in/photo.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(100))
    scene.save('in/photo.jpeg')
    Path('in/drawing.svg').write_text('<svg/>')
    Path('in/notes.txt').write_text('no picture')
    message = predict(ZERO_SHOT, 'none', 'in', '--outputs', 'labels')
    written = sorted(path.name for path in Path('predicted/labels').iterdir())
    assert written == [*(f'{number}.png' for number in range(10)), 'grey.png', 'photo.png']
    named = message.splitlines()
    assert named[0] == 'error: left out' and len(named) == 3
    assert named[1].startswith('in/drawing.svg: ') and named[2].startswith('in/photo.heic: ')
    exact = np.asarray(Image.open('predicted/labels/8.png'))
    for number in (2, 5, 6):  # lossless, by OpenCV and by Pillow
        assert np.array_equal(np.asarray(Image.open(f'predicted/labels/{number}.png')), exact)


@pytest.mark.parametrize('size', [(1, 300), (300, 1), (2, 2000), (2000, 2), (1, 1)])
def test_a_narrow_picture_is_predicted_or_named(size: tuple[int, int], predict: Callable,
                                                folder: Path) -> None:
    cv2.imwrite('in/narrow.png', np.zeros((*size, 3), np.uint8))
    message = predict(ZERO_SHOT, 'none', 'in/narrow.png', 'in/scene.0.png')
    assert Path('predicted/labels/scene.0.png').is_file()
    if message is None:
        assert Image.open('predicted/labels/narrow.png').size == size[::-1]
    else:
        assert message.startswith('error: left out\nin/narrow.png: ')
        assert len(message.splitlines()) == 2


def test_a_full_disk_ends_the_run_in_one_line(predict: Callable, folder: Path,
                                              full_disk: Callable) -> None:
    """What is there is whole; a video is, too, or not there."""
    words = [ZERO_SHOT, 'none', 'in/scene.0.png', 'in/below/clip.avi', '--outputs', 'overlays']
    assert predict(*words) is None
    size = Path('predicted/overlays/clip.mp4').stat().st_size
    shutil.rmtree('predicted')
    with full_disk(2000):
        message = predict(*words)
    assert message.startswith('error: [Errno 27] File too large: ') and '\n' not in message
    assert message.endswith("predicted/overlays/scene.0.png'")
    with full_disk(size - 100):
        message = predict(*words[:2], *words[3:])
    assert message.startswith('error: ') and '\n' not in message and 'clip.mp4' in message
    assert not [path for path in Path('predicted').rglob('*') if path.is_file()
                and path.name != 'classes.json']


def test_odd_files_in_a_folder(predict: Callable, folder: Path,
                               capsys: pytest.CaptureFixture) -> None:
    """Pipes, endless devices and names that are no text are named; links to folders are followed.

    A circle of links ends.
    """
    (folder / 'broken.jpg').unlink()
    (folder / 'below/clip.avi').unlink()
    outside = folder.parent / 'outside'
    outside.mkdir()
    shutil.copy(folder / 'scene.0.png', outside / 'linked.png')
    (folder / 'link').symlink_to(outside)
    (folder / 'again').symlink_to(folder / 'below')
    (folder / 'below/up').symlink_to(folder)
    (outside / 'back').symlink_to(folder)
    shutil.copy(folder / 'scene.0.png', folder / 'below/deep.png')
    os.mkfifo(folder / 'pipe.png')
    (folder / 'endless.mp4').symlink_to('/dev/zero')
    (folder / 'gone.png').symlink_to('gone.png')
    shutil.copy(folder / 'scene.0.png', os.fsencode(folder) + b'/\xff.png')
    (folder / '.part-x').mkdir()
    shutil.copy(folder / 'scene.0.png', folder / '.part-x/part.png')
    message = predict(ZERO_SHOT, 'none', 'in', '--outputs', 'labels')
    written = Path('predicted/labels')
    assert sorted(path.relative_to(written).as_posix() for path in written.rglob('*.png')) == [
        'below/deep.png', 'link/linked.png', 'scene.0.png', 'scene.1.png']
    assert message.splitlines() == [
        'error: left out', 'in/endless.mp4: it is no regular file',
        'in/gone.png: it is no regular file', 'in/pipe.png: it is no regular file',
        'in/\udcff.png: its name is no text in UTF-8; rename it']
    assert 'wrote 4 of 8 into predicted' in capsys.readouterr().out
    assert 'pipe.png: it is no regular file' in predict(
        ZERO_SHOT, 'none', 'in/pipe.png', '--outputs', 'labels')
    assert predict(ZERO_SHOT, 'none', 'in/**/deep.png', '--outputs', 'labels') is None


def test_a_table_holds_no_formulas(predict: Callable, folder: Path) -> None:
    for name in ('=1+1', '@SUM(1)', '\ttab', '-x', '\uff1d1', "it's"):
        shutil.copy(folder / 'scene.0.png', folder / f'{name}.png')
    assert predict(ZERO_SHOT, 'none', 'in/*.png', '--outputs', 'labels', '--classes',
                   '=HYPERLINK("http://x"), +1') is None
    with Path('predicted/shares.csv').open(newline='', encoding='utf-8') as stream:
        rows = [*csv.DictReader(stream)]
    assert {row['picture'] for row in rows} == {
        "'=1+1", "'@SUM(1)", "'\ttab", "'-x", "'\uff1d1", "it's", 'scene.0', 'scene.1'}
    assert {row['name'] for row in rows} <= {'\'=HYPERLINK("http://x")', "'+1"}


def test_parts_and_damaged_label_maps(predict: Callable, folder: Path) -> None:
    """A killed run leaves a part; a damaged map is no full disk."""
    words = [ZERO_SHOT, 'none', 'in/scene.0.png', '--outputs', 'labels']
    assert predict(*words) is None
    table = Path('predicted/shares.csv').read_text()
    part = Path('predicted/labels/.part-x1')
    part.mkdir()
    whole = Path('predicted/labels/scene.0.png').read_bytes()
    (part / '1.png').write_bytes(whole)
    (part / '2.png').write_bytes(whole[:40])
    assert predict(*words) is None
    assert Path('predicted/shares.csv').read_text() == table
    Path('predicted/labels/cut.png').write_bytes(whole[:-60])
    message = predict(*words)
    assert message.startswith('error: predicted/labels/cut.png is no picture that Pillow can read')
    assert message.endswith('; remove it, and the same command writes it anew')
    Image.fromarray(np.full((2, 2), 99, np.uint8)).save('predicted/labels/cut.png')
    assert predict(*words) == (
        'error: predicted/labels/cut.png has the label 99, of 30 names; remove it, and the same '
        'command writes it anew')


def test_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, run_tool: Callable) -> None:
    """What is there is whole, and the same command goes on."""
    call, words = Predictor.__call__, [ZERO_SHOT, 'none', 'in/scene.0.png', 'in/scene.1.png']

    def stop(predictor: Predictor, path: Path) -> object:
        if path.name == 'scene.1.png':
            raise KeyboardInterrupt
        return call(predictor, path)
    monkeypatch.setattr(Predictor, '__call__', stop)
    done = run_tool('predict', *words, cwd=folder.parent)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == (
        'stopped: what is in predicted is whole; the same command goes on from there')
    assert 'Traceback' not in done.stderr
    monkeypatch.setattr(Predictor, '__call__', call)
    done = run_tool('predict', *words, cwd=folder.parent)
    assert done.returncode == 0
    assert done.stdout.endswith('wrote 1 of 2 into predicted; 1 was there already\n')


def test_score_maps_are_for_pictures(predict: Callable, folder: Path) -> None:
    message = predict(ZERO_SHOT, 'none', 'in/below/clip.avi', '--outputs', 'score_maps')
    assert 'in/below/clip.avi: score maps are drawn for pictures, not for videos' in message


def test_one_file_and_some_outputs(predict: Callable, folder: Path) -> None:
    assert predict(ZERO_SHOT, 'none', 'in/scene.0.png', 'in/*.1.png', '--outputs', 'labels') is None
    assert sorted(path.relative_to('predicted').as_posix() for path in Path('predicted').rglob(
        '*') if path.is_file()) == [
            'classes.json', 'labels/scene.0.png', 'labels/scene.1.png', 'shares.csv']


def test_one_name_alone(predict: Callable, folder: Path) -> None:
    words = [ZERO_SHOT, 'none', 'in/scene.0.png', '--classes', 'grass']
    message = predict(*words)
    assert message.startswith("error: 'grass' alone leaves nothing to choose between")
    assert '--other' in message and '\n' not in message
    assert predict(*words, '--other', '0.55') is None
    expected = Predictor(ZERO_SHOT, device='cpu', class_names=['grass'], other=0.55)(
        folder / 'scene.0.png')
    assert np.array_equal(np.asarray(Image.open('predicted/labels/scene.0.png')), expected.labels)
    legend = json.loads(Path('predicted/classes.json').read_text())
    assert legend['classes'] == ['grass', 'other'] and legend['other'] == 0.55
    assert legend['palette'][1] == [128, 128, 128]
    with Path('predicted/shares.csv').open(newline='') as stream:
        assert {row['name'] for row in csv.DictReader(stream)} == {
            ['grass', 'other'][label] for label in expected.shares()}
    assert 'classes.json differs in other; choose' in predict(*words, '--other', '0.6')


def save_random(path: str, config: Path, seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(dict(state_dict=init_model(str(config), device='cpu').state_dict()), path)


def test_results_of_another_question_are_not_kept_for_this_one(
        predict: Callable, folder: Path, small_demo: str, capsys: pytest.CaptureFixture) -> None:
    """The same file name may hold other weights; what is there is not said to be written."""
    config = folder.parent / 'small.py'
    config.write_text(small_demo)
    save_random('model.pth', config, 0)
    words = [config, 'model.pth', 'in/scene.0.png']
    mixed = [*words, '--outputs', 'labels', '--ensemble', '0.35', '1']
    assert predict(*mixed) is None
    assert capsys.readouterr().out.endswith('wrote 1 of 1 into predicted\n')
    assert predict(*mixed[:3], 'in/scene.1.png', *mixed[3:]) is None
    assert capsys.readouterr().out.endswith('wrote 1 of 2 into predicted; 1 was there already\n')
    assert 'classes.json differs in ensemble; choose another --out' in predict(
        *mixed[:-2], '0', '1')
    assert 'differs in ensemble, labelled_by; choose' in predict(*words)
    legend = json.loads(Path('predicted/classes.json').read_text())
    assert legend['ensemble'] == [0.35, 1] and 'opacity' not in legend

    # How overlays and score maps look counts where there are some.
    assert predict(*mixed, '--outputs', 'overlays', '--opacity', '0.4') is None
    assert predict(*mixed, '--opacity', '0.6', '--num-score-maps', '2') is None
    assert 'differs in opacity' in predict(*mixed, '--outputs', 'overlays')
    assert predict(*mixed, '--outputs', 'score_maps', '--num-score-maps', '2') is None
    assert 'differs in num_score_maps' in predict(*mixed, '--outputs', 'score_maps')

    content = torch.load('model.pth')
    content['state_dict']['backbone.tower.bn1.running_mean'] += 1  # no parameter, and it counts
    torch.save(content, 'model.pth')
    assert 'differs in weights; choose' in predict(*mixed)
    save_random('model.pth', config, 1)
    assert 'differs in weights; choose' in predict(*mixed)
    for text in ('', '[1]'):
        Path('predicted/classes.json').write_text(text)
        assert 'predicted/classes.json is no legend that' in predict(*mixed)


@pytest.mark.parametrize(('words', 'message'), [
    (['nix.py', 'none', 'in'], "error: there is no config 'nix.py'"),
    ([ZERO_SHOT, 'nix.pth', 'in'], "error: there is no checkpoint 'nix.pth'"),
    ([ZERO_SHOT, 'none', 'nowhere'], "error: 'nowhere' is no file, no folder"),
    ([ZERO_SHOT, 'none', 'in', '--classes', 'sea, sea'], "'sea' stands twice"),
    ([ZERO_SHOT, 'none', 'in', '--classes', ''], "name 0 ('') is empty"),
    ([ZERO_SHOT, 'none', 'in', '--opacity', '7'], '--opacity: has to be 0 to 1, got 7.0'),
    ([ZERO_SHOT, 'none', 'in', '--opacity', 'nan'], '--opacity: has to be 0 to 1, got nan'),
    ([ZERO_SHOT, 'none', 'in', '--num-score-maps', '-1'], 'has to be 1 or more, got -1'),
    ([ZERO_SHOT, 'none', 'in', '--classes', 'names.txt'], "='names.txt' is neither a file"),
    ([ZERO_SHOT, 'none', 'in/scene.0.png', 'scene.0.jpg'], 'would both be written as scene.0'),
    ([ZERO_SHOT, 'none', 'frames'], 'clip.mp4 and frames/clip/0.png would both write to clip/'),
    (['scene.0.jpg', 'none', 'in'], "'scene.0.jpg' is no config"),
])
def test_refusals(words: list, message: str, predict: Callable, folder: Path) -> None:
    (folder.parent / 'scene.0.jpg').touch()
    (folder.parent / 'frames/clip').mkdir(parents=True)
    for name in ('clip.mp4', 'clip/0.png'):
        (folder.parent / 'frames' / name).touch()
    stopped = predict(*words)
    assert message in stopped and '\n' not in stopped
    assert not Path('predicted').exists()
