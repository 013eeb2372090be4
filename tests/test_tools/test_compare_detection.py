"""The comparison of detectors: which scenes a seed draws, and what a run measures."""

import json

from denseclip_mm.demo.annotations import annotations_of, things_path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

pytest.importorskip('mmdet')
FEW = {'train_cfg.max_iters': 1, 'train_dataloader.batch_size': 2,
       'test_dataloader.dataset.indices': 2}


@pytest.fixture
def tool(load_tool):
    return load_tool('demo/compare_detection')


def test_both_detectors_learn_from_the_scenes_of_a_seed(tool, tmp_path):
    drawn = {}
    for name in tool.SYSTEMS:
        for seed in (0, 1):
            cfg = tool.read_config(tmp_path, name, seed, 3, {})
            path = cfg.train_dataloader.dataset.ann_file
            images = annotations_of(path)['images']
            assert len(images) == 3 and cfg.randomness.seed == seed
            drawn.setdefault(seed, set()).add(images[0]['file_name'])
            assert cfg.test_dataloader.dataset.ann_file == things_path(1, 200, 128)
    assert drawn == {0: {'scene-10-0.png'}, 1: {'scene-11-0.png'}}  # none of them is of seed 1


def test_a_run_is_in_the_table(tool, tmp_path, monkeypatch):
    """Its AP are what COCO's evaluation returns, in percent."""
    evaluated = dict(bbox_mAP=0.1, bbox_mAP_50=0.2, segm_mAP=0.3, segm_mAP_50=0.4)
    test = tool.Runner.test

    def tested(runner):
        return {**test(runner), **{f'coco/{key}': value for key, value in evaluated.items()}}
    monkeypatch.setattr(tool.Runner, 'test', tested)

    def run_here(trial, runs, jobs):
        for folder, words in runs.items():
            result = trial(folder, *words)
            (folder / 'result.json').write_text(json.dumps(result))
    monkeypatch.setattr('denseclip_mm.demo.trials.run_all', run_here)
    with DefaultScope.overwrite_default_scope('mmdet'):
        tool.main(['--scenes', '3', '--seeds', '0', '--out', str(tmp_path / 'out'),
                   '--cfg-options', *(f'{key}={value}' for key, value in FEW.items())])
    table = (tmp_path / 'out/table.md').read_text()
    assert '| no language | 3 | 10.0 | 20.0 | 30.0 | 40.0 | 2,094,958 |' in table
    assert '| DenseCLIP | 3 | 10.0 | 20.0 | 30.0 | 40.0 | 3,261,550 |' in table
    for name in tool.SYSTEMS:
        folder = tmp_path / f'out/{name}/scenes3-seed0'
        logged = [path.read_text() for path in folder.rglob('2*.json')]
        assert any('"coco/segm_mAP"' in text for text in logged)
        cfg = Config.fromfile(folder / f'{name}.py')
        assert cfg.train_dataloader.dataset.ann_file == 'scene://128/things-10-3.json'
