"""The tools on a detector, in the scenes' few seconds."""

import json
import sys
from pathlib import Path

from denseclip_mm import Predictor
from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.checks.config import build_model, load_config
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

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
    any_score = 'model.test_cfg.rcnn.score_thr=0.0'
    succeed('test', *words, any_score, '--show-dir', tmp_path / 'drawn', '--out', 'found',
            cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / 'drawn').iterdir()) == [
        'scene-1-0.png', 'scene-1-1.png']
    boxes, masks = (json.loads((tmp_path / f'found/predictions.{kind}.json').read_text())
                    for kind in ('bbox', 'segm'))
    assert len(boxes) == len(masks) == 40 and {box['image_id'] for box in boxes} == {0, 1}
    assert {'bbox', 'score', 'category_id'} <= boxes[0].keys() and 'segmentation' in masks[0]
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{CONFIG}'\ntest_evaluator = dict(_delete_=True, "
                      "type='DumpDetResults', out_file_path='a.pkl')\n")
    refused = run_tool('test', config, *words[1:4], '--out', 'labels', cwd=tmp_path)
    assert refused.returncode and "lets CocoMetric write a detector's results, and there is" in (
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


@pytest.fixture
def served(trained, tmp_path) -> list[Path]:
    """A config that keeps boxes of any score, and the checkpoint; two pictures and a video."""
    config = tmp_path / 'served.py'
    config.write_text(f"_base_ = '{CONFIG}'\nmodel = dict(test_cfg=dict(rcnn=dict("
                      "score_thr=0.0, max_per_img=5)))\n")
    (tmp_path / 'in').mkdir()
    for index in range(2):
        cv2.imwrite(str(tmp_path / f'in/scene {index}.png'), draw(3, index, 128)[0])
    video = cv2.VideoWriter(str(tmp_path / 'in/clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10,
                            (128, 96))
    for index in range(2):
        video.write(draw(4, index, 128)[0][:96])
    video.release()
    return [config, trained / 'iter_2.pth']


def test_predict(served, succeed, run_tool, tmp_path):
    words = ['predict', *served, 'in', '--score-threshold', 0]
    printed = succeed(*words, cwd=tmp_path)
    assert '24 classes, answered by the detector' in printed and 'wrote 3 of 3' in printed
    with DefaultScope.overwrite_default_scope('mmdet'):
        predictor = Predictor(*served, device='cpu')
        expected = predictor(tmp_path / 'in/scene 1.png')
    out = tmp_path / 'predicted'
    assert json.loads((out / 'boxes/scene 1.json').read_text()) == expected.results('scene 1')
    assert np.array_equal(Image.open(out / 'overlays/scene 1.png'), expected.overlay())
    assert Image.open(out / 'score_maps/scene 1.png').width > 500
    legend = json.loads((out / 'classes.json').read_text())
    assert legend['classes'] == expected.class_names and legend['score_threshold'] == 0
    video = cv2.VideoCapture(str(out / 'overlays/clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2 and video.read()[1].shape == (384, 512, 3)
    frames = sorted(path.name for path in (out / 'boxes/clip').iterdir())
    assert frames == ['000000.json', '000001.json', 'done']
    entry = json.loads((out / 'boxes/clip/000001.json').read_text())[0]
    assert entry['image_id'] == 'clip/000001'

    printed = succeed(*words[:4], '--out', 'named', '--classes', 'red thing, grass;lawn',
                      '--outputs', 'boxes', cwd=tmp_path)
    assert '2 classes, answered by the score map in the boxes of the detector' in printed
    assert json.loads((tmp_path / 'named/boxes/scene 0.json').read_text()) == []  # none above 0.3
    for more, said in [
            (['--outputs', 'labels'], 'has no labels; it has overlays, boxes, score_maps'),
            (['--score-threshold', '2'], '--score-threshold: has to be 0 to 1, got 2.0'),
            (['--other', '0.2'], 'other is for pixels; the things of a detector have scores of'),
            (['--classes', 'red thing'], "'red thing' alone leaves nothing to choose between"),
            ([], 'choose another --out')]:
        refused = run_tool(*words[:4], *more, cwd=tmp_path)
        assert refused.returncode and said in refused.stderr.strip().splitlines()[-1]
    refused = run_tool('predict', ROOT / 'configs/demo/zero_shot_scenes.py', 'none', 'in',
                       '--score-threshold', '0.5', '--out', 'other', cwd=tmp_path)
    assert refused.returncode and '--score-threshold is for detectors' in refused.stderr


def test_export(served, succeed, run_tool, tmp_path):
    printed = succeed('export', *served, '--out', 'there', cwd=tmp_path)
    assert 'without the text tower' in printed and 'onnx' not in printed
    there = tmp_path / 'there/config.py', tmp_path / 'there/model.pth'
    image = draw(3, 0, 128)[0]
    with DefaultScope.overwrite_default_scope('mmdet'):
        given, exported = (Predictor(*files, device='cpu') for files in (served, there))
        assert exported.model.neck.text_encoder is None
        ours, theirs = exported(image), given(image)
    for key in ('boxes', 'scores', 'labels', 'masks', 'cells', 'class_names', 'palette'):
        assert np.array_equal(getattr(ours, key), getattr(theirs, key)), key
    assert len(ours.boxes) == 5
    for more, said in [
            (['--formats', 'pth', 'onnx'], 'MaskRCNN is a detector, and mmdet has no ONNX of its'),
            (['--classes', 'cat, dog'], 'has no config to write, as an ensemble has none, and a')]:
        refused = run_tool('export', *served, *more, '--out', 'not', cwd=tmp_path)
        assert refused.returncode and said in refused.stderr.strip().splitlines()[-1]
        assert not list(tmp_path.glob('not/*'))


@pytest.mark.parametrize('name', ['mask_rcnn', 'fcos', 'deformable_detr'])
def test_other_classes_than_those_of_the_checkpoint(name, tmp_path):
    """What has the classes in a dimension starts anew; all else is loaded."""
    config = ROOT / f'configs/detection/denseclip_{name}_scenes.py'
    cfg = load_config(str(config), options=None, launcher='none', work_dir=None)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg, 'cpu')
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'all.pth')
        names = list(cfg.model.neck.class_names)[:20]
        cfg.model.neck.class_names = names
        head = cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head
        head.num_classes = 20
        if name == 'mask_rcnn':
            cfg.model.roi_head.mask_head.num_classes = 20
        fewer = build_model(cfg, 'cpu')
        before = {key: value.clone() for key, value in fewer.state_dict().items()}
        load_checkpoint(fewer, tmp_path / 'all.pth', new_classes=True)
        with pytest.raises(ValueError, match=r'is no checkpoint of this config: .*size mis'):
            load_checkpoint(fewer, tmp_path / 'all.pth')
    for key, value in fewer.state_dict().items():
        theirs = model.state_dict()[key]
        assert torch.equal(value, theirs if theirs.shape == value.shape else before[key]), key
    anew = {key.rsplit('.', 1)[0] for key, value in before.items()
            if value.shape != model.state_dict()[key].shape}
    expected = {
        'mask_rcnn': {'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg',
                      'roi_head.mask_head.conv_logits', 'neck.neck.lateral_convs.3.conv'},
        'fcos': {'bbox_head.conv_cls', 'neck.neck.lateral_convs.0.conv'},
        'deformable_detr': {*(f'bbox_head.cls_branches.{layer}' for layer in range(2)),
                            'neck.neck.convs.3.conv'}}[name]
    assert anew == expected


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
