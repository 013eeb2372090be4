"""What mmseg's users expect goes on working: its inference, APIs, hooks, tools, heads and losses.

Values are compared with what is computed here from the model's bare outputs. Python blocks of
docs/mmseg_tools.md are run as they stand there.
"""

import io
import json
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partialmethod
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

from denseclip_mm.demo.render import BASE_CLASSES, CLASSES
from denseclip_mm.demo.scenes import ScenesDataset, draw

import cv2
import mmseg
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner
from mmengine.structures import PixelData
from mmengine.utils import digit_version
from mmseg.apis import MMSegInferencer, inference_model, init_model, show_result_pyplot
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(mmseg.__file__).parent / '.mim/tools'
ONEDL = digit_version(mmseg.__version__) > digit_version('1.2.2')
PAGE = (ROOT / 'docs/mmseg_tools.md').read_text()

SMALL = """
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64, length=4))
val_dataloader = dict(batch_size=1, dataset=dict(image_size=64, length=3))
test_dataloader = dict(batch_size=1, dataset=dict(image_size=64, length=3, pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = []
randomness = dict(seed=1)
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3),
                     visualization=dict(type='SegVisualizationHook', draw=True, interval=1))
custom_hooks = [dict(type='CheckClassesHook'), dict(type='EMAHook', momentum=0.5)]
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory, small_demo) -> str:
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(small_demo + SMALL)
    return str(path)


class RecordHook(Hook):
    """Keeps the weights after each iteration, and what the validation answers."""

    priority = 'HIGH'  # before EMAHook

    def before_train(self, runner: Runner) -> None:
        """Start afresh."""
        self.weights, self.answers = [], []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Keep the weights."""
        self.weights.append({name: parameter.detach().clone()
                             for name, parameter in runner.model.named_parameters()})

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                       outputs: list | None = None) -> None:
        """Keep the answers."""
        self.answers.extend(outputs)


@pytest.fixture(scope='module')
def trained(config, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """Three iterations with averaged weights, and a validation that paints what it sees."""
    cfg = Config.fromfile(config)
    cfg.work_dir = str(tmp_path_factory.mktemp('work'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegLocalVisualizer, 'add_datasample', without_names())
        runner = Runner.from_cfg(cfg)
        record = RecordHook()
        runner.register_hook(record)
        runner.train()
    return SimpleNamespace(record=record, work_dir=Path(cfg.work_dir),
                           checkpoint=f'{cfg.work_dir}/iter_3.pth')


@pytest.fixture(scope='module')
def model(config, trained) -> BaseSegmentor:
    return init_model(config, trained.checkpoint, device='cpu')


def without_names() -> partialmethod:
    """Of the visualiser: names of classes cover half of a small picture."""
    return partialmethod(SegLocalVisualizer.add_datasample, with_labels=False)


def paint(bgr: np.ndarray, labels: np.ndarray, opacity: float) -> np.ndarray:
    """The RGB picture of base classes, each in the colour that scenes give it."""
    colours = np.zeros((256, 3))
    for index, name in enumerate(BASE_CLASSES):
        colours[index] = ScenesDataset.METAINFO['palette'][CLASSES.index(name)]
    return (bgr[..., ::-1] * (1 - opacity) + colours[labels] * opacity).astype(np.uint8)


@torch.no_grad()
def logits_of(model: BaseSegmentor, bgr: np.ndarray, size: tuple[int, int] | None = None) -> Tensor:
    """Logits (K, H, W): normalised by hand, and the bare network."""
    mean, std = ([*model.cfg.model.data_preprocessor[key]] for key in ('mean', 'std'))
    image = (bgr[..., ::-1] - np.array(mean)) / np.array(std)
    x = torch.tensor(image, dtype=torch.float).permute(2, 0, 1)[None]
    return F.interpolate(model(x, mode='tensor'), size or bgr.shape[:2], mode='bilinear')[0]


def large_scene() -> np.ndarray:
    return cv2.resize(draw(1, 0, 64)[0], (112, 80))  # 80 rows


# Inference.


def test_whole_inference(model):
    bgr = large_scene()
    result = inference_model(model, bgr)
    logits = logits_of(model, bgr)
    torch.testing.assert_close(result.seg_logits.data, logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(result.pred_sem_seg.data[0], logits.argmax(0))
    assert len(logits.argmax(0).unique()) > 1


def test_slide_inference_averages_windows(model, monkeypatch):
    """Windows of 64 at every 32 pixels; the last of a row or column ends with the image."""
    bgr = large_scene()
    tops, lefts = (0, 16), (0, 32, 48)
    total, count = np.zeros((30, 80, 112)), np.zeros((80, 112))
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + 64), slice(left, left + 64)
            total[:, rows, columns] += logits_of(model, bgr[rows, columns]).numpy()
            count[rows, columns] += 1
    assert count.min() == 1 and count.max() == 6
    monkeypatch.setattr(model, 'test_cfg', Config(dict(
        mode='slide', crop_size=(64, 64), stride=(32, 32))))
    result = inference_model(model, bgr)
    np.testing.assert_allclose(result.seg_logits.data, total / count, rtol=1e-4, atol=1e-4)
    assert not np.allclose(result.seg_logits.data, logits_of(model, bgr), rtol=1e-2)


def test_tta_averages_probabilities(model, config):
    """Of two scales and both directions."""
    bgr = draw(1, 0, 64)[0]
    steps = [[dict(type='Resize', scale=(side, side)) for side in (64, 96)],
             [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
             [dict(type='PackSegInputs')]]
    dataset = DATASETS.build(dict(
        type='ScenesDataset', length=1, seed=1, image_size=64,
        pipeline=[dict(type='TestTimeAug', transforms=steps)]))
    augmented = MODELS.build(dict(Config.fromfile(config).tta_model, module=model))
    batch = {key: [[value] for value in values] for key, values in dataset[0].items()}
    result, = augmented.test_step(batch)
    probabilities = []
    for side in (64, 96):
        larger = cv2.resize(bgr, (side, side))
        probabilities += [
            F.interpolate(logits[None], (64, 64), mode='bilinear')[0].softmax(0)
            for logits in (logits_of(model, larger), logits_of(model, larger[:, ::-1]).flip(2))]
    mean = torch.stack(probabilities).mean(0)
    assert torch.equal(result.pred_sem_seg.data[0], mean.argmax(0))
    assert not torch.equal(mean.argmax(0), probabilities[0].argmax(0))


# APIs.


def test_inference_model_takes_paths_arrays_and_lists(model, config, trained, tmp_path):
    bgr = draw(1, 0, 64)[0]
    cv2.imwrite(str(tmp_path / 'scene.png'), bgr)
    expected = logits_of(model, bgr).argmax(0)
    by_path = init_model(config, trained.checkpoint, device='cpu')
    for path in (str(tmp_path / 'scene.png'), 'scene://64/scene-1-0.png'):
        assert torch.equal(inference_model(by_path, path).pred_sem_seg.data[0], expected)
    for result in inference_model(model, [bgr, bgr]):
        assert torch.equal(result.pred_sem_seg.data[0], expected)


def test_show_result_pyplot(model, tmp_path):
    bgr = draw(1, 0, 64)[0]
    result = inference_model(model, bgr)
    assert list(model.dataset_meta['classes']) == list(BASE_CLASSES)
    shown = show_result_pyplot(model, bgr[..., ::-1], result, opacity=0.6, with_labels=False,
                               show=False, out_file=str(tmp_path / 'shown.png'))
    expected = paint(bgr, result.pred_sem_seg.data[0].numpy(), 0.6)
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'shown.png')), expected[..., ::-1])
    named = show_result_pyplot(model, bgr[..., ::-1].copy(), result, opacity=0.6, show=False)
    assert named.shape == expected.shape and not np.array_equal(named, expected)


def test_inferencer(model, config, trained, tmp_path):
    """Of a path to a config; the classes are those of the checkpoint's training."""
    inferencer = MMSegInferencer(config, trained.checkpoint, device='cpu')
    paths = [f'scene://64/scene-1-{index}.png' for index in range(2)]
    answers = inferencer(paths, return_vis=True, out_dir=str(tmp_path), opacity=0.6,
                         with_labels=False)
    for index, path in enumerate(paths):
        bgr = draw(1, index, 64)[0]
        labels = inference_model(model, bgr).pred_sem_seg.data[0].numpy()
        np.testing.assert_array_equal(answers['predictions'][index], labels)
        np.testing.assert_array_equal(answers['visualization'][index], paint(bgr, labels, 0.6))
        saved = cv2.imread(str(tmp_path / f'pred/0000000{index}_pred.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(saved, labels)
        assert (tmp_path / 'vis' / Path(path).name).is_file()
    assert list(inferencer.visualizer.dataset_meta['classes']) == list(BASE_CLASSES)


def test_inferencer_of_a_demo_config():
    path = ROOT / 'configs/demo/zero_shot_scenes.py'
    inferencer = MMSegInferencer(str(path), device='cpu')
    inferencer.model.init_weights()
    model = init_model(path, device='cpu')
    model.init_weights()
    bgr = draw(1, 0, 128)[0]
    np.testing.assert_array_equal(inferencer(bgr)['predictions'],
                                  inference_model(model, bgr).pred_sem_seg.data[0])


def blocks(language: str, containing: str) -> str:
    """The one block of the page that contains this."""
    found = [block for block in re.findall(rf'```{language}\n(.*?)```', PAGE, re.DOTALL)
             if containing in block]
    assert len(found) == 1
    return found[0]


def run_block(containing: str, **values: object) -> dict:
    """Execute a block, with other values for the names that its first lines set."""
    code = blocks('python', containing)
    for name, value in values.items():
        line, = re.findall(rf'^{name} = .*$', code, re.MULTILINE)
        code = code.replace(line, f'{name} = {value!r}')
    names: dict = {}
    exec(code, names)
    return names


def test_zero_shot_checkpoint(tmp_path):
    """The page's way to give mmseg's APIs a model that was never trained: 54 mIoU, not noise."""
    out = tmp_path / 'zero_shot.pth'
    run_block("'zero_shot.pth'", config=f'{ROOT}/configs/demo/zero_shot_scenes.py',
              out=str(out))
    cfg = Config.fromfile(ROOT / 'configs/demo/zero_shot_scenes.py')
    cfg.test_dataloader.dataset.pipeline = cfg.test_pipeline
    inferencer = MMSegInferencer(cfg, str(out), device='cpu')
    right = total = 0
    for index in range(4):
        bgr, truth = draw(1, index, 128)
        answer = inferencer(f'scene://128/scene-1-{index}.png', return_vis=True, opacity=0.6,
                            with_labels=False)
        labels = answer['predictions']
        names = np.array(BASE_CLASSES)[labels]
        known = np.isin(np.array(CLASSES)[truth], BASE_CLASSES)
        right += (names == np.array(CLASSES)[truth])[known].sum()
        total += known.sum()
        np.testing.assert_array_equal(answer['visualization'], paint(bgr, labels, 0.6))
    assert right / total > 0.6


# Hooks.


def test_visualization_hook(trained):
    """Ground truth on the left, prediction on the right, both in the classes' colours."""
    folder, = trained.work_dir.glob('*/vis_data/vis_image')
    for index, answer in enumerate(trained.record.answers):
        bgr = draw(1, index, 64)[0]
        truth, predicted = (sample.data[0].numpy()
                            for sample in (answer.gt_sem_seg, answer.pred_sem_seg))
        path, = folder.glob(f'val_scene-1-{index}.png_*.png')  # and the iteration
        saved = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_array_equal(
            saved, np.hstack([paint(bgr, labels, 0.8) for labels in (truth, predicted)]))


def test_ema_hook_validates_averaged_weights(trained, config):
    first, second, third = trained.record.weights
    state = CheckpointLoader.load_checkpoint(trained.checkpoint, 'cpu')['state_dict']
    for name in first:
        averaged = (first[name] / 2 + second[name] / 2) / 2 + third[name] / 2
        torch.testing.assert_close(state[name], averaged, msg=name)
    moved = [name for name in first if not torch.equal(first[name], third[name])]
    assert 'neck.prompt.contexts' in moved
    averaged = init_model(config, trained.checkpoint, device='cpu')
    last = init_model(config, trained.checkpoint, device='cpu')
    last.load_state_dict({**state, **third})
    assert len(trained.record.answers) == 3
    for index, answer in enumerate(trained.record.answers):
        bgr = draw(1, index, 64)[0]
        torch.testing.assert_close(answer.seg_logits.data, logits_of(averaged, bgr),
                                   rtol=1e-3, atol=1e-4)
        assert not torch.allclose(answer.seg_logits.data, logits_of(last, bgr), rtol=1e-2)


# Tools of mmseg, in this process: denseclip_mm is imported, as by the page's mmseg_tool.


def tool(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> None:
    if not (TOOLS / name).is_file():
        pytest.skip('this mmseg ships no tools')
    monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
    runpy.run_path(str(TOOLS / name), run_name='__main__')


def test_get_flops(config, monkeypatch):
    """Norms and interpolation are counted too, 1 % here, and the text in any case."""
    names = run_block('FlopAnalyzer', config=config, size=(64, 64))
    model, flops = names['model'], names['flops']
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert names['parameters'] == parameters
    counts = []
    for _ in range(2):  # with the text, and with the text that is kept
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(names['image'], mode='tensor')
        counts.append(counter.get_total_flops() / 2)
    assert flops[''] == pytest.approx(counts[0], rel=0.03)
    assert flops['neck.text_encoder'] == pytest.approx(counts[0] - counts[1], rel=0.03)
    words = ['analysis_tools/get_flops.py', config, '--shape', 64]
    if not ONEDL:
        with pytest.raises(ValueError, match='cannot be both set'):
            tool(monkeypatch, *words)
        return
    with redirect_stdout(io.StringIO()) as output:
        tool(monkeypatch, *words)
    printed = dict(re.findall(r'(Flops|Params): (.*)M', output.getvalue()))
    assert float(printed['Flops']) * 1e6 == pytest.approx(counts[0], rel=0.03)
    assert float(printed['Params']) * 1e6 == pytest.approx(parameters, rel=1e-3)


def test_browse_dataset(config, tmp_path, monkeypatch):
    """The page's block, and mmseg's tool where its visualiser can write names into a picture."""
    browse = ['analysis_tools/browse_dataset.py', config, '--not-show', '--output-dir',
              tmp_path / 'tool']
    if ONEDL:
        with monkeypatch.context() as patch:
            patch.setattr(SegLocalVisualizer, 'add_datasample', without_names())
            tool(monkeypatch, *browse)
    else:
        with pytest.raises(cv2.error, match='incompatible with cv::Mat'):
            tool(monkeypatch, *browse)
    run_block('browsed', config=config, folder=str(tmp_path / 'named'))
    monkeypatch.setattr(SegLocalVisualizer, 'add_datasample', without_names())
    run_block('browsed', config=config, folder=str(tmp_path / 'plain'))
    for index in range(4):
        bgr, truth = draw(0, index, 64)
        labels = np.array([BASE_CLASSES.index(name) if name in BASE_CLASSES else 255
                           for name in CLASSES], np.uint8)[truth]
        expected = paint(bgr, labels, 0.8)[..., ::-1]
        name = f'scene-0-{index}.png'
        written = [cv2.imread(str(path)) for path in (
            tmp_path / f'plain/vis_data/vis_image/{name}_0.png',
            *([tmp_path / 'tool' / name] if ONEDL else []))]
        for picture in written:  # the pipeline flips every other scene
            assert any(np.array_equal(picture, each) for each in (expected, expected[:, ::-1]))
        assert (tmp_path / f'named/vis_data/vis_image/{name}_0.png').is_file()


DATASETS_OF_FILES = {  # with the number of classes, and the suffix of labels
    'DRIVEDataset': (2, '_manual1.png'),
    'LoveDADataset': (7, '.png'),  # label 0 is void
    'CityscapesDataset': (19, '_gtFine_labelTrainIds.png'),
}


@pytest.mark.parametrize('name', DATASETS_OF_FILES)
def test_confusion_matrix(name, tmp_path, monkeypatch):
    """The page's block is right; mmseg's tool is for few classes that start at label 0.

    Its numbers are of eight bits, and OpenMMLab's subtracts the void label a second time.
    """
    classes, suffix = DATASETS_OF_FILES[name]
    rng = np.random.default_rng(0)
    image_suffix = '_leftImg8bit.png' if name.startswith('City') else '.png'
    for folder in ('images', 'labels', 'answers'):
        (tmp_path / folder).mkdir()
    for index in (2, 10):  # sorted by name: 10, 2
        cv2.imwrite(f'{tmp_path}/images/{index}{image_suffix}', np.zeros((8, 9, 3), np.uint8))
        cv2.imwrite(f'{tmp_path}/labels/{index}{suffix}',
                    rng.integers(0, classes, (8, 9), dtype=np.uint8))
    cfg = Config(dict(test_dataloader=dict(dataset=dict(
        type=name, data_root=str(tmp_path), test_mode=True,
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                  dict(type='PackSegInputs')]))))
    cfg.dump(tmp_path / 'config.py')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    metric = METRICS.build(dict(type='IoUMetric', format_only=True,
                                output_dir=str(tmp_path / 'answers')))
    metric.dataset_meta = dataset.metainfo
    expected = np.zeros((classes, classes), int)
    for sample in dataset:
        truth = sample['data_samples']
        answer = torch.randint(0, classes, (1, 8, 9))
        truth.pred_sem_seg = PixelData(data=answer)
        metric.process({}, [truth.to_dict()])
        for pixel, label in zip(answer.ravel(), truth.gt_sem_seg.data.ravel(), strict=True):
            if label != 255:
                expected[label, pixel] += 1

    names = run_block('bincount', config=str(tmp_path / 'config.py'),
                      answers=str(tmp_path / 'answers'))
    np.testing.assert_array_equal(names['matrix'], expected)
    if not (TOOLS / 'analysis_tools/confusion_matrix.py').is_file():
        pytest.skip('this mmseg ships no tools')
    counted = runpy.run_path(str(TOOLS / 'analysis_tools/confusion_matrix.py'))
    pictures = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                for path in sorted((tmp_path / 'answers').iterdir())]
    try:
        matrix = counted['calculate_confusion_matrix'](dataset, pictures)
    except ValueError:  # there were numbers of no pair of classes
        matrix = None
    is_right = name == 'DRIVEDataset' or (name == 'LoveDADataset' and ONEDL)
    assert (matrix is not None and np.array_equal(matrix, expected)) == is_right
    if name == 'DRIVEDataset':
        tool(monkeypatch, 'analysis_tools/confusion_matrix.py', tmp_path / 'config.py',
             tmp_path / 'answers', tmp_path / 'picture')
        assert cv2.imread(str(tmp_path / 'picture/confusion_matrix.png')) is not None


def test_publish_model(model, config, trained, tmp_path):
    """By the page's shell function, in a process of its own; alone the tool refuses the file."""
    publish = TOOLS / 'misc/publish_model.py'
    if not publish.is_file():
        pytest.skip('this mmseg ships no tools')
    script = f'{blocks("bash", "runpy")}\nmmseg_tool misc/publish_model.py "$1" model.pth'
    env = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    done = subprocess.run(['bash', '-c', script, 'bash', trained.checkpoint], cwd=tmp_path,
                          env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digest = sha256(Path(trained.checkpoint).read_bytes()).hexdigest()[:8]
    published = tmp_path / f'model-{digest}.pth'
    deadline = time.monotonic() + 20
    while not published.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)  # the tool does not wait for mv
    kept, whole = (CheckpointLoader.load_checkpoint(str(path), 'cpu')
                   for path in (published, trained.checkpoint))
    assert 'optimizer' in whole and 'optimizer' not in kept
    loaded = init_model(config, str(published), device='cpu').state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name

    alone = subprocess.run([sys.executable, publish, trained.checkpoint, 'alone.pth'], env=env,
                           cwd=tmp_path, capture_output=True, text=True)
    assert alone.returncode != 0 and 'HistoryBuffer' in alone.stderr


@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # numpy's, of the empty mean
def test_benchmark(config, trained, tmp_path, monkeypatch):
    """It counts 200 images, and answers nan where a set has fewer."""
    for length in (200, 3):
        longer = tmp_path / f'{length}.py'
        longer.write_text(f"_base_ = '{config}'\n"
                          f'test_dataloader = dict(dataset=dict(length={length}))\n')
        tool(monkeypatch, 'analysis_tools/benchmark.py', longer, trained.checkpoint,
             '--work-dir', tmp_path / str(length))
        written = json.loads(next((tmp_path / str(length)).glob('fps_*.json')).read_text())
        assert (written['average_fps'] > 1) if length == 200 else np.isnan(written['average_fps'])


# Heads, losses and samplers of mmseg behind the neck.

NAMES = ['cat', 'dog', 'sky', 'tree', 'road']
FPN = dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8, num_outs=4)
COMMON = dict(channels=8, num_classes=5, dropout_ratio=0, norm_cfg=dict(type='BN'))
HEADS = {
    'fpn': dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                feature_strides=[4, 8, 16, 32], **COMMON),
    'uper': dict(type='UPerHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                 pool_scales=(1, 2), **COMMON),
    'segformer': dict(type='SegformerHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], **COMMON),
}
CROSS_ENTROPY = dict(type='CrossEntropyLoss', loss_weight=0.7)
WEIGHTED = dict(type='CrossEntropyLoss', loss_weight=0.7, class_weight=[1., 2., 3., 4., 0.5])
DICE = dict(type='DiceLoss', loss_weight=2.0)
LOVASZ = dict(type='LovaszLoss', reduction='none', loss_weight=0.3)
OHEM = dict(type='OHEMPixelSampler', thresh=0.25, min_kept=100)


def cross_entropy(logits: Tensor, labels: Tensor, *, hard: Tensor | None = None) -> Tensor:
    """0.7 times the mean over all pixels, in mmseg's default manner; those of 255 count as 0."""
    probability = logits.softmax(1).gather(1, labels.clamp(max=4)[:, None])[:, 0]
    loss = -probability.log() * (labels != 255)
    return 0.7 * (loss if hard is None else loss * hard).mean()


def weighted(logits: Tensor, labels: Tensor) -> Tensor:
    """0.7 times the mean over labelled pixels, each counting as much as its class."""
    judged = labels != 255
    weight = torch.tensor(WEIGHTED['class_weight'])[labels[judged]]
    loss = -logits.log_softmax(1).gather(1, labels.clamp(max=4)[:, None])[:, 0][judged]
    return 0.7 * (weight * loss).sum() / weight.sum()


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Two times the V-Net form over classes and pixels of an image, of sigmoids."""
    truth = torch.stack([labels == index for index in range(5)], 1).double().flatten(1)
    guess = logits.sigmoid().flatten(1)
    share = 2 * (guess * truth).sum(1) / ((guess**2).sum(1) + (truth**2).sum(1) + 2e-3)
    return 2 * (1 - share).mean()


def lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """0.3 times the Lovasz extension of 1 - IoU, over the classes that are there."""
    judged = labels != 255
    values = []
    for index in labels[judged].unique():
        truth = (labels[judged] == index).double()
        error = (truth - logits.softmax(1)[:, index][judged]).abs()
        error, order = error.sort(descending=True)
        missed, added = truth[order].cumsum(0), (1 - truth[order]).cumsum(0)
        jaccard = 1 - (truth.sum() - missed) / (truth.sum() + added)
        values.append((error * jaccard.diff(prepend=jaccard.new_zeros(1))).sum())
    return 0.3 * torch.stack(values).mean()


def hard_pixels(logits: Tensor, labels: Tensor) -> Tensor:
    """OHEM: those whose own class has a probability under 0.25, and at least 200."""
    own = logits.softmax(1).gather(1, labels.clamp(max=4)[:, None])[:, 0]
    limit = max(0.25, float(own.detach()[labels != 255].sort().values[200]))
    return (own < limit) & (labels != 255)


LOSSES = {  # config, sampler, and the losses by name
    'class weights': (WEIGHTED, None, dict(loss_ce=weighted)),
    'ohem': (CROSS_ENTROPY, OHEM, dict(loss_ce=lambda logits, labels: cross_entropy(
        logits, labels, hard=hard_pixels(logits, labels)))),
    'ce and dice': ([CROSS_ENTROPY, DICE], None, dict(loss_ce=cross_entropy, loss_dice=dice)),
    'ce and lovasz': ([CROSS_ENTROPY, LOVASZ], None,
                      dict(loss_ce=cross_entropy, loss_lovasz=lovasz)),
}
IGNORED = {name: 0 if name == 'class weights' and not ONEDL else 10 for name in LOSSES}


def build(clip: dict, decode_head: dict | list, *, neck: dict | None = FPN,
          auxiliary: dict | None = None, segmentor: str = 'EncoderDecoder',
          **rest: object) -> BaseSegmentor:
    torch.manual_seed(0)
    nested = dict(neck=neck, score_map_index=3) if neck else {}
    model = MODELS.build(dict(
        type=segmentor,
        data_preprocessor=dict(type='SegDataPreProcessor'),
        backbone=dict(type='CLIPResNet', model=clip, image_size=64),
        neck=dict(type='PixelTextNeck', class_names=NAMES,
                  text_encoder=dict(type='CLIPTextTower', model=clip),
                  prompt=dict(type='LearnedContext', num_context=2),
                  output_score_map=auxiliary is not None or not neck, **nested),
        decode_head=decode_head, auxiliary_head=auxiliary,
        test_cfg=ConfigDict(mode='whole'), **rest))
    model.init_weights()
    return model.train()


def batch(ignored: int = 10) -> tuple[Tensor, Tensor, list[SegDataSample]]:
    """Images (2, 3, 64, 64), labels (2, 64, 64) with rows of 255, and the labels as samples."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, 5, (2, 8, 8), generator=generator)
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[:, :ignored] = 255
    return images, labels, [
        SegDataSample(gt_sem_seg=PixelData(data=label[None]), metainfo=dict(
            img_shape=(64, 64), ori_shape=(64, 64)))
        for label in labels]


def check_losses(model: BaseSegmentor, heads: dict[str, Callable],
                 expected: dict[str, Callable], ignored: int = 10) -> None:
    """Each head's losses, by its logits and hand; and the gradients of their sum."""
    images, labels, samples = batch(ignored)
    losses = model.loss(images, samples)
    features = model.extract_feat(images)
    names = {f'{head}.{name}' for head in heads for name in expected}
    assert {name for name in losses if 'loss' in name} == names
    for head, forward in heads.items():
        logits = F.interpolate(forward(features), (64, 64), mode='bilinear').double()
        for name, function in expected.items():
            torch.testing.assert_close(losses[f'{head}.{name}'], function(logits, labels).float(),
                                       rtol=1e-4, atol=1e-5)
    model.parse_losses(losses)[0].backward()
    neck = model.neck
    assert neck.prompt.contexts.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in neck.text_encoder.parameters())
    if neck.neck is not None:
        entry = next(p for p in neck.neck.parameters() if p.dim() == 4 and p.shape[1] == 256 + 5)
        assert entry.grad[:, 256:].abs().sum() > 0  # what was learned from the score map
    for parameter in model.backbone.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize('with_auxiliary', [True, False], ids=['auxiliary', 'alone'])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('loss', LOSSES)
def test_heads_and_losses(tiny_resnet, head, loss, with_auxiliary):
    """Without the auxiliary head the contexts learn through the wrapped neck alone."""
    loss_decode, sampler, expected = LOSSES[loss]
    both = dict(loss_decode=loss_decode, sampler=sampler)
    auxiliary = dict(type='ScoreMapHead', in_index=4, num_classes=5, **both)
    model = build(tiny_resnet, dict(HEADS[head], **both),
                  auxiliary=auxiliary if with_auxiliary else None)
    heads = dict(decode=model.decode_head)
    if with_auxiliary:
        heads['aux'] = model.auxiliary_head
    check_losses(model, heads, expected, IGNORED[loss])


def test_uper_head_on_plain_maps(tiny_resnet):
    """As UPerNet has it: no FPN before the head; MultiLevelNeck joins the score map to a map."""
    neck = dict(type='MultiLevelNeck', in_channels=[32, 64, 128, 256], out_channels=8,
                scales=[1, 1, 1, 1])
    model = build(tiny_resnet, dict(HEADS['uper'], loss_decode=CROSS_ENTROPY), neck=neck)
    check_losses(model, dict(decode=model.decode_head), dict(loss_ce=cross_entropy))


@pytest.mark.parametrize('loss', LOSSES)
def test_score_map_alone(tiny_resnet, loss):
    """Without a neck, as in prompt tuning: its one output is what the head takes."""
    loss_decode, sampler, expected = LOSSES[loss]
    model = build(tiny_resnet, dict(type='ScoreMapHead', num_classes=5, loss_decode=loss_decode,
                                    sampler=sampler), neck=None)
    check_losses(model, dict(decode=lambda outputs: outputs[0] / 0.07), expected, IGNORED[loss])


def test_class_weights_and_ignored_pixels(tiny_resnet):
    """With mmseg 1.2.2 their labels are asked for a weight; ClassWeightSampler knows better."""
    images, _, samples = batch()
    head = dict(type='ScoreMapHead', num_classes=5)
    if not ONEDL:
        with pytest.raises(IndexError, match='index 255 is out of bounds'):
            build(tiny_resnet, dict(head, loss_decode=WEIGHTED), neck=None).loss(images, samples)
    sampler = dict(type='ClassWeightSampler', class_weight=WEIGHTED['class_weight'])
    model = build(tiny_resnet, dict(head, loss_decode=CROSS_ENTROPY, sampler=sampler), neck=None)
    check_losses(model, dict(decode=model.decode_head), dict(loss_ce=weighted))


def test_cascade(tiny_resnet):
    """The score map is OCRNet's coarse answer: its regions gather what the second head sees."""
    ocr = dict(type='OCRHead', in_channels=8, in_index=3, ocr_channels=8, **COMMON,
               loss_decode=CROSS_ENTROPY)
    model = build(tiny_resnet, [dict(type='ScoreMapHead', in_index=4, num_classes=5,
                                     loss_decode=CROSS_ENTROPY), ocr],
                  auxiliary=dict(type='FCNHead', in_channels=8, in_index=2, num_convs=1,
                                 loss_decode=CROSS_ENTROPY, **COMMON),
                  segmentor='CascadeEncoderDecoder', num_stages=2)
    first, second = model.decode_head
    check_losses(model, {
        'decode_0': first, 'decode_1': lambda features: second(features, first(features)),
        'aux': model.auxiliary_head}, dict(loss_ce=cross_entropy))
    HOOKS.build(dict(type='CheckClassesHook')).before_run(
        SimpleNamespace(model=model, _load_from=None, _resume=False))
    images, _, samples = batch()
    with torch.no_grad():
        answers = model.eval()(images, samples, mode='predict')
        features = model.extract_feat(images)
        logits = second(features, features[4] / 0.07)
    for answer, expected in zip(answers, F.interpolate(logits, (64, 64), mode='bilinear'),
                                strict=True):
        assert torch.equal(answer.pred_sem_seg.data[0], expected.argmax(0))


# The index of models.


def test_model_index():
    """Published figures are those of the model zoo, schedules those of the configs."""
    page = (ROOT / 'docs/model_zoo.md').read_text()
    zoo = {config: [float(single), float(multi)] for config, single, multi in re.findall(
        r'^\| `(configs/\S+)`.*\| (\S+) / (\S+) \|', page, re.MULTILINE)}
    zoo |= {config: [float(box), *([float(mask)] if mask else [])] for config, box, mask in
            re.findall(r'^\| `(configs/detection/\S+)`.*?\| (\d\d\.\d)(?: \(([\d.]+)\))? \|', page,
                       re.MULTILINE)}
    assert len(zoo) == 6 + 8
    listed = {}
    for metafile in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']:
        for each in yaml.safe_load((ROOT / metafile).read_text())['Models']:
            if 'Results' not in each:
                continue
            cfg, data = Config.fromfile(ROOT / each['Config']), each['Metadata']
            assert data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
            assert data.get('Iterations') == cfg.train_cfg.get('max_iters')
            assert data.get('Epochs') == cfg.train_cfg.get('max_epochs')
            if 'Crop Size' in data:
                assert data['Crop Size'] == str(cfg.crop_size)
            assert {result['Dataset'] for result in each['Results']} == {data['Training Data']}
            listed[each['Config']] = [figure for result in each['Results']
                                      for figure in result['Metrics'].values()]
    assert listed == zoo
