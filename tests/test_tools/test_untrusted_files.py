"""Runs of mmengine that are given a file with code, on both stacks; see also tests/attacks."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ROOT / 'configs/demo/coop_scenes.py'
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        """What pickle calls, with which arguments."""
        return os.mkdir, (str(self.folder), )


@pytest.mark.parametrize('write', [
    torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))],
    ids=['torch.save', 'pickle'])
@pytest.mark.parametrize(('tool', 'words'), [
    ('train', [PROMPTS, '--resume']),
    ('train', [PROMPTS, '--cfg-options', 'load_from=out/iter_3.pth']),
    ('train', [PROMPTS, '--cfg-options', 'load_from=out/iter_3.pth', 'resume=True']),
    ('train', [PROMPTS, '--cfg-options', 'model.backbone.pretrained=out/iter_3.pth',
                          'model.neck.text_encoder.pretrained=out/iter_3.pth']),
    ('train', [PROMPTS, '--cfg-options', 'model.init_cfg.type=Pretrained',
               'model.init_cfg.checkpoint=out/iter_3.pth']),
    ('test', [ZERO_SHOT, 'out/iter_3.pth']),
], ids=['resume', 'load_from', 'resume=True', 'pretrained', 'init_cfg', 'test'])
def test_a_file_with_code_ends_in_one_line(
        run_tool: Callable, tmp_path: Path, tool: str, words: list, write: Callable) -> None:
    made, path = tmp_path / 'made', tmp_path / 'out/iter_3.pth'
    path.parent.mkdir()
    write(dict(state_dict={'weight': Payload(made)}, optimizer={}, message_hub={}, meta={}), path)
    (path.parent / 'last_checkpoint').write_text('out/iter_3.pth')
    done = run_tool(tool, *words, '--work-dir', 'out', cwd=tmp_path)
    assert not made.exists()
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and line.startswith('error: ') and 'Traceback' not in done.stderr
    assert 'iter_3.pth is no ' in line and 'run code when it is loaded, so it was not' in line
    assert 'weights_only' not in done.stdout + done.stderr


def cut(content: dict, path: Path) -> None:
    torch.save(content, path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(('write', 'fault'), [
    (lambda content, path: path.write_bytes(b''), 'it is empty'),
    (cut, 'it is cut short; fetch or copy it anew'),
    (lambda content, path: path.write_text('hello world'), "it is a text, 'hello world'"),
    (lambda content, path: torch.save([], path), 'it holds no state dict'),
    (lambda content, path: torch.save({**content, 'meta': []}, path),
     'its meta is a list, not a dict'),
    (lambda content, path: torch.save({**content, 'meta': dict(dataset_meta=dict(classes=5))},
                                      path), 'its classes are no list of names (int)'),
], ids=['empty', 'cut', 'text', 'list', 'meta', 'classes'])
@pytest.mark.parametrize('words', [
    ['test', ZERO_SHOT, 'model.pth'],
    ['train', PROMPTS, '--cfg-options', 'load_from=model.pth'],
], ids=['test', 'load_from'])
def test_what_is_no_checkpoint_ends_in_one_line(
        run_tool: Callable, tmp_path: Path, words: list, write: Callable, fault: str) -> None:
    write(dict(state_dict={'weight': torch.zeros(99)}, meta={}), tmp_path / 'model.pth')
    tool, *words = words
    done = run_tool(tool, *words, '--work-dir', 'out', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1] == f'error: model.pth is no checkpoint: {fault}'
