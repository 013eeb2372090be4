"""Pictures of score maps: their pixels, the maps in them, and the hook in real runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from denseclip_mm.apis.pictures.panels import draw_panels
from denseclip_mm.apis.segmentation import score_map_of
from denseclip_mm.demo import ScenesDataset
from denseclip_mm.demo.render import CLASSES
from denseclip_mm.engine.score_map_hook import draw_sample, plain_model

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
NAMES = ['cat', 'dog;puppy', 'sky']
GREY = (70, 80, 90)  # of no letter
PALETTE = [(200, 30, 60), (10, 140, 250), (90, 220, 40)]
LOADING = LoadImageFromFile()
BOTH = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]


@pytest.fixture
def build(tiny_resnet, model_config) -> Callable[..., EncoderDecoder]:
    """Builds the model, with changes; the weights are the same each time."""
    def build(changes: dict | None = None, names: Sequence[str] = NAMES) -> EncoderDecoder:
        config = Config(dict(model=model_config(tiny_resnet, names)))
        config.merge_from_dict(dict(model=changes or {}))
        torch.manual_seed(0)
        return MODELS.build(config.model).eval()
    return build


def batch_of(*images: torch.Tensor, **meta: object) -> dict:
    """A dataloader's batch of images (3, H, W), uint8, BGR."""
    samples = [SegDataSample(metainfo=dict(
        ori_shape=image.shape[1:], img_shape=tuple(image.shape[1:]), img_path='unknown.png',
        **meta)) for image in images]
    return pseudo_collate([dict(inputs=image, data_samples=sample)
                           for image, sample in zip(images, samples, strict=True)])


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image.flip(0)[None].float() - 120) / 70


@torch.no_grad()
def upsampled(model: EncoderDecoder, pixels: torch.Tensor) -> torch.Tensor:
    """The neck's score map of one normalised image, at its size: (K, H, W)."""
    cells = model.extract_feat(pixels)[-1]
    return F.interpolate(cells, size=pixels.shape[2:], mode='bilinear')[0]


def where(picture: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    return (picture == np.array(colour)).all(-1)


def test_label_panels_have_the_colours_of_the_palette():
    """Truth: upper half cats, lower half dogs, the left quarter without label. Prediction: sky."""
    truth = np.zeros((80, 120), np.uint8)
    truth[40:] = 1
    truth[:, :30] = 255
    picture = draw_panels(np.full((80, 120, 3), GREY, np.uint8),
                          {'ground truth': truth, 'prediction': np.full_like(truth, 2)}, {},
                          names=NAMES, palette=PALETTE)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    (cat_y, cat_x), (dog_y, dog_x), (sky_y, sky_x), (_, image_x) = (
        np.nonzero(where(picture, colour)) for colour in (*PALETTE, GREY))
    assert image_x.max() < cat_x.min() and cat_x.max() < sky_x.min()
    assert (cat_x.min(), cat_x.max()) == (dog_x.min(), dog_x.max())
    assert cat_y.max() + 1 == dog_y.min()
    assert sky_y.min() == cat_y.min() and sky_y.max() == dog_y.max()
    panel = (np.ptp(sky_y) + 1) * (np.ptp(sky_x) + 1)
    assert len(sky_x) == panel > 200 * 130
    assert len(cat_x) == pytest.approx(0.375 * panel, rel=0.02)
    assert len(dog_x) == pytest.approx(0.375 * panel, rel=0.02)
    black = where(picture, (0, 0, 0))[cat_y.min():dog_y.max(), image_x.max() + 1:cat_x.min()]
    assert black.sum() == pytest.approx(0.25 * panel, rel=0.03)


def test_score_maps_share_one_scale_and_have_frames_of_their_class():
    scores = {2: np.full((60, 60), -0.25), 0: np.full((60, 60), 0.75)}
    picture = draw_panels(np.full((60, 60, 3), GREY, np.uint8), {}, scores, names=NAMES,
                          palette=PALETTE)
    magma = matplotlib.colormaps['magma']
    x = [np.nonzero(where(picture, colour))[1] for colour in
         (magma(0.0, bytes=True)[:3], PALETTE[2], magma(1.0, bytes=True)[:3], PALETTE[0])]
    lowest, sky, highest, cat = x
    lowest = lowest[lowest < cat.min()]  # the colour bar has these colours too
    highest = highest[highest < cat.max()]
    assert len(lowest) > 200 * 200 and len(highest) > 200 * 200
    assert sky.min() < lowest.min() < lowest.max() < sky.max() < cat.min() < highest.min()
    assert highest.max() < cat.max()
    assert not where(picture, PALETTE[1]).any()


def test_panels_wrap_and_long_names_make_room():
    image, score = np.zeros((60, 120, 3), np.uint8), np.zeros((60, 120))
    one, two = (draw_panels(image, {}, {k: score for k in range(count)}, names=['sky'] * 12,
                            palette=[(1, 2, 3)] * 12) for count in (5, 11))
    assert two.shape == (2 * one.shape[0], one.shape[1], 3)
    long = draw_panels(image, {}, {0: score}, names=['a name of very many words ' * 3],
                       palette=[(1, 2, 3)])
    assert long.shape[0] > one.shape[0] + 40


@pytest.mark.parametrize('output', [True, False])
def test_whole_images(build, output):
    """The map is the one of the forward pass, of either image of a batch."""
    model, batch = build(), batch_of(noise(64, 96, 1), noise(64, 96, 2) // 8)
    seen = []
    handle = model.neck.register_forward_hook(lambda neck, inputs, outputs: seen.append(outputs))
    with torch.no_grad():
        model.test_step(batch)
    handle.remove()
    expected = F.interpolate(seen[0][-1], size=(64, 96), mode='bilinear')
    other = build(dict(neck=dict(output_score_map=output), auxiliary_head=None))
    other.load_state_dict(model.state_dict())
    for index in (0, 1):
        torch.testing.assert_close(score_map_of(other, batch, index), expected[index], atol=1e-5,
                                   rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    assert other.neck.output_score_map == output  # the model itself is as it was
    assert type(other.decode_head).__name__ == 'FPNHead'
    assert len(other.neck.class_names) == other.out_channels == 3


def test_slide_inference_averages_windows(build):
    model = build(dict(test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(64, 32))))
    image = noise(64, 128)
    pixels = normalised(image)
    total, count = torch.zeros(3, 64, 128), torch.zeros(128)
    for left in (0, 32, 64):
        total[..., left:left + 64] += upsampled(model, pixels[..., left:left + 64])
        count[left:left + 64] += 1
    result = score_map_of(model, batch_of(image), 0)
    torch.testing.assert_close(result, total / count, atol=1e-5, rtol=1e-4)
    assert (result - upsampled(model, pixels)).abs().max() > 1e-3


def test_test_time_augmentation_averages_views(build):
    model, images = build(), [noise(64, 96, 1), noise(64, 96, 2) // 8]
    views = [batch_of(*images), batch_of(*(image.flip(2) for image in images), flip=True,
                                         flip_direction='horizontal')]
    batch = {key: [view[key] for view in views] for key in views[0]}
    expected = (upsampled(model, normalised(images[1]))
                + upsampled(model, normalised(images[1].flip(2))).flip(2)) / 2
    torch.testing.assert_close(score_map_of(model, batch, 1), expected, atol=1e-5, rtol=1e-4)


def test_padding_is_cut_off_and_pictures_have_their_own_size(build):
    model = build(dict(data_preprocessor=dict(test_cfg=dict(size_divisor=64))))
    image = noise(64, 80)
    batch = batch_of(image)
    batch['data_samples'][0].set_metainfo(dict(ori_shape=(32, 40)))
    padded = F.pad(normalised(image), (0, 48))
    expected = F.interpolate(upsampled(model, padded)[None, :, :, :80], size=(32, 40),
                             mode='bilinear')[0]
    torch.testing.assert_close(score_map_of(model, batch, 0), expected, atol=1e-5, rtol=1e-4)


def labelled(path: Path, truth: np.ndarray | None, prediction: np.ndarray) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(img_path=str(path)))
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
    if truth is not None:
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
    return sample


def drawn_classes(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What :func:`draw_sample` hands to :func:`draw_panels`, which still draws."""
    calls = []

    def record(image, labels, scores, **options):
        calls.append((image, labels, scores))
        return draw_panels(image, labels, scores, **options)
    monkeypatch.setattr('denseclip_mm.engine.score_map_hook.draw_panels', record)
    return calls


def test_a_sample_is_read_in_rgb_and_its_largest_classes_are_drawn(build, tmp_path, monkeypatch):
    """Truth and prediction: 40 + 0 columns of cats, 16 + 0 of dogs, 0 + 64 of sky."""
    calls = drawn_classes(monkeypatch)
    model, path = build(), tmp_path / 'picture.png'
    cv2.imwrite(str(path), np.full((64, 64, 3), (10, 120, 230), np.uint8))  # BGR
    batch = batch_of(noise(64, 64))
    truth = np.full((64, 64), 255, np.uint8)
    truth[:, :40], truth[:, 40:56] = 0, 1
    sample = labelled(path, truth, np.full((64, 64), 2))
    picture = draw_sample(model, batch, 0, sample, 2, PALETTE, LOADING)
    assert where(picture, (230, 120, 10)).sum() > 200 * 200
    _, labels, scores = calls[0]
    assert list(labels) == ['ground truth', 'prediction', 'score maps alone']
    assert list(scores) == [2, 0]
    expected = score_map_of(model, batch, 0).numpy()
    np.testing.assert_array_equal(scores[2], expected[2])
    np.testing.assert_array_equal(scores[0], expected[0])
    for classes, chosen in ((1, [2]), (7, [2, 0, 1]), (['dog;puppy', 'cat'], [1, 0])):
        draw_sample(model, batch, 0, sample, classes, PALETTE, LOADING)
        assert list(calls[-1][2]) == chosen
    draw_sample(model, batch, 0, labelled(path, None, np.full((64, 64), 1)), 3, PALETTE, LOADING)
    assert list(calls[-1][1]) == ['prediction', 'score maps alone'] and list(calls[-1][2]) == [1]
    draw_sample(model, batch, 0, labelled(path, np.full_like(truth, 255), np.full((64, 64), 1)),
                3, PALETTE, LOADING)
    assert list(calls[-1][2]) == [1]


@pytest.mark.parametrize(('options', 'message'), [
    (dict(classes='sky'), "classes='sky' is neither a list of class names nor a number"),
    (dict(classes=0), 'classes=0 is neither'),
    (dict(classes=-1), 'classes=-1 is neither'),
    (dict(classes=[]), r'classes=\[\] is neither'),
    (dict(interval=0), 'interval=0 is too small; 1 draws every image'),
])
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='ScoreMapVisualizationHook', **options))


def test_the_plain_model_is_found_in_wrappers(build):
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = build()
    assert plain_model(model) is model
    assert plain_model(Wrapper(Wrapper(model))) is model


def run_config(model: dict, work_dir: Path, hook: dict, batch_size: int = 2) -> Config:
    """Two iterations on scenes, a validation on five scenes after each, and a test."""
    loader = dict(
        batch_size=batch_size, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='ScenesDataset', length=5, image_size=64,
                     pipeline=[dict(type='PackSegInputs')]))
    return Config(dict(
        default_scope='mmseg', work_dir=str(work_dir), experiment_name=work_dir.name,
        model=model, randomness=dict(seed=0),
        train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler', shuffle=False)),
        val_dataloader=loader, val_evaluator=dict(type='IoUMetric'),
        test_dataloader=loader, test_evaluator=dict(type='IoUMetric'), test_cfg=dict(),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1), val_cfg=dict(),
        log_processor=dict(by_epoch=False), custom_hooks=[hook],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        visualizer=dict(type='SegLocalVisualizer', name=work_dir.name, vis_backends=BOTH),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10, save_last=False))))


def pictures_of(work_dir: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path))[..., ::-1]
            for path in work_dir.rglob('vis_image/*.png')}


def test_files_and_tensorboard_hold_every_third_image(tiny_resnet, tmp_path, model_config):
    hook = dict(type='ScoreMapVisualizationHook', interval=3, classes=['grass', 'red circle'])
    runner = Runner.from_cfg(run_config(model_config(tiny_resnet, CLASSES), tmp_path, hook))
    runner.train()
    runner.test()
    runner.visualizer.close()
    pictures = pictures_of(tmp_path)
    assert sorted(pictures) == [
        f'score_maps_{mode}_scene-0-{index}_{step}.png'
        for mode, index, step in (('test', 0, 2), ('test', 3, 2), ('val', 0, 1), ('val', 0, 2),
                                  ('val', 3, 1), ('val', 3, 2))]
    assert not np.array_equal(pictures['score_maps_val_scene-0-3_1.png'],
                              pictures['score_maps_val_scene-0-3_2.png'])  # it has learned
    events = EventAccumulator(str(next(tmp_path.rglob('events.out.tfevents*')).parent)).Reload()
    for name, picture in pictures.items():
        tag, step = name.removesuffix('.png').rsplit('_', 1)
        shown, = (image for image in events.Images(tag) if image.step == int(step))
        decoded = cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8),
                               cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decoded, picture)
    scene = ScenesDataset(length=5, image_size=64)
    truth = scene[3]['gt_seg_map']
    colours = [scene.metainfo['palette'][label] for label in np.unique(truth)]
    for colour in colours:  # of the truth panel, at least
        assert where(pictures['score_maps_test_scene-0-3_2.png'], colour).any()


@pytest.mark.parametrize(('changes', 'classes', 'message'), [
    (dict(), ['grass', 'gras'], "the model has no class 'gras' to draw the score map of; it has"),
    (dict(neck=dict(_delete_=True, type='FPN', in_channels=[32, 64, 128, 256], out_channels=8,
                    num_outs=4),
          backbone=dict(with_embeddings=False), auxiliary_head=None), 3,
     'there are no score maps to draw: the neck of the model is FPN, not PixelTextNeck'),
    (dict(neck=None, auxiliary_head=None), 3, 'the neck of the model is NoneType'),
    (dict(type='CascadeEncoderDecoder', num_stages=2), 3, 'CascadeEncoderDecoder are not drawn'),
])
def test_a_run_is_refused_before_training(changes, classes, message, tiny_resnet, tmp_path,
                                          model_config):
    config = run_config(model_config(tiny_resnet, CLASSES), tmp_path,
                        dict(type='ScoreMapVisualizationHook', classes=classes))
    config.merge_from_dict(dict(model=changes))
    if 'num_stages' in changes:
        config.model.decode_head = [config.model.decode_head] * 2
    runner = Runner.from_cfg(config)
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0
    assert not pictures_of(tmp_path)


SMALL = """
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64))
val_dataloader = dict(dataset=dict(image_size=64, length=6))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
custom_hooks = [dict(type='ScoreMapVisualizationHook', interval=4)]
tta_pipeline = [dict(type='TestTimeAug', transforms=[
    [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)], [dict(type='PackSegInputs')]])]
"""


def test_tools_draw(tmp_path, small_demo, run_tool, succeed):
    """Training, test with flips, and the tool that draws one image; the mistakes one can make."""
    config = tmp_path / 'small.py'
    config.write_text(small_demo + SMALL)
    succeed('train', config, '--work-dir', 'train', cwd=tmp_path)
    succeed('test', config, 'train/iter_2.pth', '--tta', '--work-dir', 'test', cwd=tmp_path)
    names = sorted([*pictures_of(tmp_path / 'train'), *pictures_of(tmp_path / 'test')])
    assert names == [f'score_maps_{mode}_scene-1-{index}_{step}.png'
                     for mode, step in (('test', 0), ('val', 2)) for index in (0, 4)]

    draw = ['analysis_tools/draw_score_maps', config, 'train/iter_2.pth']
    succeed(*draw, 'out/picture.png', '--index', 4, cwd=tmp_path)
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / 'out/picture.png'))[..., ::-1],
        pictures_of(tmp_path / 'train')['score_maps_val_scene-1-4_2.png'])
    for words, message in (
            (['no.png', '--classes', 'gras'], "error: the model has no class 'gras'"),
            (['no.png', '--index', '6'], 'error: --index 6, but the validation set has 6 images'),
            (['no.nothing'], 'error: ValueError: unknown file extension: .nothing')):
        done = run_tool(*draw, *words, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(message)
    assert not list(tmp_path.glob('no.*'))
