"""The comparison on CamVid: the files that it needs, and its table."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.utils import get_classes
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
NAMES = ('sky', 'building', 'pole', 'road', 'sidewalk', 'tree', 'signboard', 'fence', 'car',
         'person', 'bicycle')


def random_weights() -> dict[str, torch.Tensor]:
    """Of timm's network; the running statistics are others than at the start, too."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point()
            else tensor + 7
            for name, tensor in timm.create_model('tf_efficientnet_lite0').state_dict().items()}


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By the number, as of a network of somebody else."""
    return {f'_parts.{place}.{name.split(".")[-1]}': tensor
            for place, (name, tensor) in enumerate(state.items())}


@pytest.fixture
def given(tmp_path):
    """The two files to prepare, and what is in them."""
    weights = random_weights()
    states = 28 * torch.randn(150, 768, generator=torch.Generator().manual_seed(1))
    torch.save(renamed(weights), tmp_path / 'theirs.pth')
    np.save(tmp_path / 'states.npy', states.numpy())
    return weights, states


def test_prepared_files_arrive_in_the_models(given, tmp_path, succeed):
    """Every tensor of the backbone, and the row of each name, in the configs as they stand."""
    weights, states = given
    succeed('demo/prepare_camvid', 'theirs.pth', 'states.npy', '--out', 'data/camvid_lite0',
            cwd=tmp_path)
    with pytest.MonkeyPatch.context() as change:
        change.chdir(tmp_path)  # the configs look in data/camvid_lite0
        for name in ('fpn', 'denseclip', 'aggregate'):
            cfg = Config.fromfile(ROOT / f'configs/demo/camvid_lite0_{name}.py')
            model = MODELS.build(cfg.model)
            model.init_weights()
            backbone = model.backbone if name == 'fpn' else model.backbone.backbone
            state = backbone.timm_model.state_dict()
            assert len(state) == 288
            for key, tensor in state.items():
                assert torch.equal(tensor, weights[key]), key
            if name != 'fpn':
                classes = get_classes('ade20k')
                rows = torch.stack([states[classes.index(each)] for each in NAMES])
                torch.testing.assert_close(
                    model.neck.prompt.embeddings, rows / rows.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(('change', 'message'), [
    (lambda state: {**state, 'more.weight': torch.zeros(3)},
     'holds 297 tensors, but tf_efficientnet_lite0 has 296'),
    (lambda state: {**state, '_parts.1.weight': torch.zeros(33)},
     'holds _parts.1.weight (33,) where tf_efficientnet_lite0 has bn1.weight (32,)'),
    (lambda state: dict(sorted(state.items(), key=lambda item: item[0].startswith('_parts.1.'))),
     'holds _parts.2.bias (32,) where tf_efficientnet_lite0 has bn1.weight (32,)'),
    (lambda state: {**state, '_parts.1.weight': torch.full((32, ), torch.nan)},
     'holds NaN or infinite weights (1 tensors: _parts.1.weight)'),
], ids=['one more', 'shape', 'order', 'nan'])
def test_other_weights_are_refused(change, message, given, tmp_path, run_tool):
    torch.save(change(torch.load(tmp_path / 'theirs.pth')), tmp_path / 'other.pth')
    done = run_tool('demo/prepare_camvid', 'other.pth', 'states.npy', '--out', 'out', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith('error: other.pth ') and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_other_text_is_refused(given, tmp_path, run_tool):
    np.save(tmp_path / 'other.npy', np.zeros((171, 512), np.float32))
    done = run_tool('demo/prepare_camvid', 'theirs.pth', 'other.npy', '--out', 'out', cwd=tmp_path)
    assert done.stderr == ("error: other.npy holds (171, 512), but ADE20K's text states are "
                           '(150, 768)\n')
    assert not (tmp_path / 'out').exists()


def test_names_of_the_text_states(shared, load_tool):
    """ADE20K's rows are in mmseg's order, and CamVid's classes in that of the config."""
    names = json.loads((shared / 'data/text_embeddings/ade150.json').read_text())
    assert names == list(get_classes('ade20k'))
    own = load_tool('demo/prepare_camvid').ADE20K_NAMES
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/camvid_512x512.py')
    assert (list(own), tuple(own.values())) == (cfg.classes, NAMES)


def write_camvid(root: Path, train: int, val: int) -> None:
    """Images of eleven grey bands, in any order, and their labels."""
    rng = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            labels = np.repeat(rng.permutation(11), 8)[:, None].repeat(96, 1).astype(np.uint8)
            cv2.imwrite(str(root / f'annotations/{split}/{number}.png'), labels)
            cv2.imwrite(str(root / f'images/{split}/{number}.jpg'), 20 * labels)


FEW = ['train_cfg.max_iters=2', 'train_dataloader.batch_size=2',
       'default_hooks.checkpoint.save_optimizer=False']


@pytest.mark.one_stack
def test_compare_camvid(given, tmp_path, succeed):
    """All networks from the same images, and a table of what result.json has."""
    write_camvid(tmp_path / 'camvid', train=5, val=2)
    succeed('demo/prepare_camvid', 'theirs.pth', 'states.npy', '--out', 'prepared', cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/demo/compare_camvid.py', '--data', 'camvid', '--prepared',
         'prepared', '--images', '3', '--seeds', '0', '1', '--jobs', '1', '--out', 'out',
         '--cfg-options', *FEW], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-4000:]
    results, drawn = {}, set()
    for path in (tmp_path / 'out').rglob('result.json'):
        name, seed = path.parts[-3].removeprefix('camvid_lite0_'), path.parent.name[-1]
        results[name, seed] = json.loads(path.read_text())
        cfg = Config.fromfile(path.with_name(f'camvid_lite0_{name}.py'))
        drawn.add((seed, tuple(cfg.train_dataloader.dataset.indices)))
        assert path.with_name('iter_2.pth').is_file()
    assert set(results) == {(name, seed) for name in ('fpn', 'denseclip', 'aggregate')
                            for seed in '01'}
    assert len(drawn) == 2 and all(len(set(each)) == 3 for _, each in drawn)

    def cell(values: list[float], sign: str = '') -> str:
        return f'{np.mean(values):{sign}.1f} ± {np.std(values, ddof=1):.1f}'
    table = (tmp_path / 'out/table.md').read_text()
    assert table in done.stdout
    rows = {words[0]: words[1:] for words in (
        line.strip('| ').split(' | ') for line in table.splitlines() if line.startswith('| '))}
    assert rows['network'] == ['training images', 'decode head', 'score map', 'learned parameters']
    base = [results['fpn', seed]['decode head'] for seed in '01']
    assert rows['no language'][:3] == ['3', cell(base), '-']
    for title, name in (('DenseCLIP', 'denseclip'), ('DenseCLIP, aggregation head', 'aggregate')):
        for place, column in enumerate(('decode head', 'score map')):
            values = [results[name, seed][column] for seed in '01']
            assert rows[title][1 + place] == cell(values)
            margins = [one - other for one, other in zip(values, base, strict=True)]
            assert (f'- {title}, 3 training images: {column} over no language '
                    f'{cell(margins, "+")} mIoU ({margins[0]:+.1f}, {margins[1]:+.1f}).') in table


@pytest.mark.parametrize('name', ['denseclip', 'aggregate'])
def test_the_score_map_answers(name, monkeypatch, load_tool):
    """The view that is tested gives the labels of the score map's largest entries."""
    cfg = Config.fromfile(ROOT / f'configs/demo/camvid_lite0_{name}.py')
    model = MODELS.build(cfg.model).eval()
    outputs = [torch.rand(1, 64, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    score_map = 2 * torch.rand(1, 11, 2, 3) - 1
    monkeypatch.setattr(model, 'extract_feat', lambda images: (*outputs, score_map))
    view = load_tool('demo/compare_camvid').by_score_map(model)
    labels = view.predict(torch.rand(1, 3, 64, 96))[0].pred_sem_seg.data[0]
    expected = F.interpolate(score_map, (64, 96), mode='bilinear').argmax(1)[0]
    assert torch.equal(labels, expected)
    assert not torch.equal(labels, model.predict(torch.rand(1, 3, 64, 96))[0].pred_sem_seg.data[0])


@pytest.mark.parametrize(('words', 'message'), [
    (['--data', 'nowhere'], 'there is no folder nowhere/images/train; --data takes'),
    (['--images', '6'], '--images takes numbers of 1 to 5, the .jpg files in camvid/images/train'),
    (['--images', '5'], 'there is no prepared/tf_efficientnet_lite0.pth; tools/demo/prepare_'),
])
def test_mistakes(words, message, tmp_path, run_tool):
    write_camvid(tmp_path / 'camvid', train=5, val=1)
    done = run_tool('demo/compare_camvid', '--data', 'camvid', '--prepared', 'prepared',
                    '--out', 'out', *words, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f'error: {message}')
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / 'out').exists()
