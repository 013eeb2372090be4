"""tools/train.py and tools/test.py on a detector, in the scenes' few seconds."""

import json
import sys
from pathlib import Path

from denseclip_mm import Predictor
from denseclip_mm.demo.scenes import draw

import pytest
import torch
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet')

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/detection/denseclip_mask_rcnn_scenes.py'
FEW = ['train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
       'default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.max_keep_ckpts=2',
       'train_dataloader.dataset.ann_file=scene://128/things-0-4.json',
       *(f'{split}_{what}.ann_file=scene://128/things-1-2.json' for split in ('val', 'test')
         for what in ('dataloader.dataset', 'evaluator'))]


@pytest.fixture(scope='module')
def trained(succeed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    succeed('train', CONFIG, '--work-dir', folder / 'run', '--cfg-options', *FEW, cwd=folder)
    return folder / 'run'


def last_line(run: Path, key: str) -> dict:
    lines = [json.loads(line) for path in sorted(run.rglob('vis_data/*.json'))
             for line in path.read_text().splitlines() if line.startswith('{"')]
    return [line for line in lines if key in line][-1]


def test_trains_and_validates(trained):
    assert (trained / 'iter_2.pth').is_file()
    metrics = last_line(trained, 'coco/bbox_mAP')
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()


def test_a_stopped_training_goes_on_to_the_same_weights(trained, succeed, tmp_path):
    run = tmp_path / trained.name
    run.mkdir()
    (run / 'iter_1.pth').write_bytes((trained / 'iter_1.pth').read_bytes())
    succeed('train', CONFIG, '--work-dir', run, '--resume', '--cfg-options', *FEW, cwd=tmp_path)
    ours, theirs = (torch.load(folder / 'iter_2.pth', weights_only=False)['state_dict']
                    for folder in (run, trained))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_tests_and_draws(trained, succeed, run_tool, tmp_path):
    words = [CONFIG, trained / 'iter_2.pth', '--work-dir', tmp_path, '--cfg-options', *FEW]
    succeed('test', *words, '--show-dir', tmp_path / 'drawn', cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / 'drawn').iterdir()) == [
        'scene-1-0.png', 'scene-1-1.png']
    refused = run_tool('test', *words, '--out', tmp_path / 'labels', cwd=tmp_path)
    assert refused.returncode and '--out writes label maps, and detectors make none' in (
        refused.stderr)


def test_mmdet_s_own_inference_takes_it(trained):
    """init_detector and DetInferencer, by the same boxes."""
    from mmdet.apis import DetInferencer, inference_detector, init_detector
    picture = draw(1, 7, 128)[0]
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = init_detector(str(CONFIG), str(trained / 'iter_2.pth'), device='cpu')
        model.test_cfg.rcnn.score_thr = 0.0  # after two iterations
        found = inference_detector(model, picture).pred_instances
        inferencer = DetInferencer(str(CONFIG), str(trained / 'iter_2.pth'), device='cpu',
                                   show_progress=False)
        inferencer.model.test_cfg.rcnn.score_thr = 0.0
        theirs = inferencer(picture, return_datasamples=True)['predictions'][0].pred_instances
    assert 0 < len(found) <= 20 and found.masks.shape[1:] == (128, 128)
    assert torch.equal(found.bboxes, theirs.bboxes)
    with pytest.raises(ValueError, match=r"scenes.py is a detector's; mmdet's DetInferencer"):
        Predictor(CONFIG, trained / 'iter_2.pth')


def test_classes_have_to_agree(run_tool, tmp_path):
    done = run_tool('train', CONFIG, '--cfg-options', *FEW,
                    'model.roi_head.bbox_head.num_classes=5', cwd=tmp_path)
    assert done.returncode and done.stderr.strip().splitlines()[-1].endswith(
        'roi_head.bbox_head has num_classes=5, but the neck has 24 class_names; make them equal')


def test_without_mmdet(run_tool, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    done = run_tool('train', CONFIG, cwd=tmp_path)
    assert done.returncode and 'error: detectors need mmdet, which is not installed: pip' in (
        done.stderr)
