"""The rules of the house, checked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

ROOT = Path(__file__).resolve().parents[1]

FILES = sorted((ROOT / 'denseclip_mm').rglob('*.py'))
# A room imports from itself and from these; nothing but __init__ and tools imports from demo.
BELOW = {
    'version': [],
    '__main__': [],
    'compat': ['files', 'ops', 'tensors'],
    'ops': [],
    'files': ['tensors'],
    'tensors': [],
    'torchscript': [],
    'positions': [],
    'clip': ['files', 'positions', 'tensors', 'torchscript'],
    'text': ['clip', 'files', 'tensors'],
    'backbones': ['clip', 'positions'],
    'models': ['text', 'clip'],
    'apis': ['models', 'text', 'backbones', 'clip', 'files', 'tensors'],
    'datasets': ['apis', 'models'],
    'engine': ['apis', 'datasets', 'models', 'text', 'files'],
    'demo': ['files'],
}

# The same in apis, which has rooms of its own.
BELOW_IN_APIS = {
    'command_line': [],
    'pictures': [],
    'feature_cache': [],
    'open_vocabulary': ['pictures'],
    'prediction': ['pictures'],
    'regions': ['open_vocabulary', 'pictures'],
    'output': ['pictures', 'prediction', 'regions'],
    'checks': ['feature_cache'],
    'checkpoints': ['checks', 'pictures'],
    'segmentation': ['open_vocabulary', 'prediction'],
    'detection': ['open_vocabulary', 'prediction', 'regions'],
    'inference': ['checkpoints', 'checks', 'detection', 'feature_cache', 'open_vocabulary',
                  'pictures', 'prediction', 'segmentation'],
}


def module_of(path) -> str:
    return path.relative_to(ROOT / 'denseclip_mm').with_suffix('').parts[0]


def imports(tree: ast.Module) -> list[str]:
    """What a file imports, as ``package.part`` or deeper."""
    return [alias.name if isinstance(node, ast.Import) else f'{node.module}.{alias.name}'
            for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names]


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 250
    own = module_of(path)
    if own != '__init__':
        for name in imports(tree):
            if name.startswith('denseclip_mm.'):
                assert name.split('.')[1] in [own, *BELOW[own]], f'{own} <- {name}'
    if own == 'apis' and path.parent.name + path.stem != 'apis__init__':
        room = path.relative_to(ROOT / 'denseclip_mm/apis').with_suffix('').parts[0]
        for name in imports(tree):
            if name.startswith('denseclip_mm.apis.'):
                assert name.split('.')[2] in [room, *BELOW_IN_APIS[room]], f'{room} <- {name}'
    if own in ('text', 'clip', 'files', 'ops', 'positions', 'tensors', 'torchscript') or (
            own == 'backbones' and path.name != 'aligned.py'):
        assert not any(name.startswith('mm') for name in imports(tree)), 'knows open_clip alone'
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'print')
        if isinstance(node, ast.FunctionDef):
            defaults = node.args.defaults + [d for d in node.args.kw_defaults if d is not None]
            assert not any(isinstance(d, ast.List | ast.Dict | ast.Set) for d in defaults)
            if node.name == '__init__':
                assert node.args.kwarg is None, f'{own}.__init__ swallows typos'


def test_registered_names_are_free():
    """Importing mmseg alone, none of our names is in its registries or mmengine's."""
    code = ('from denseclip_mm import compat; compat.stub_missing_ops()\n'
            'import sys; ours = sys.modules["denseclip_mm"].__all__\n'
            'from mmseg.registry import DATASETS, HOOKS, MODELS\n'
            'import mmseg.models, mmseg.datasets, mmseg.engine\n'
            'for name in ours:\n'
            '    for registry in (DATASETS, HOOKS, MODELS):\n'
            '        assert name not in registry._module_dict, name\n'
            'from mmengine.registry import MODELS as ROOT_MODELS\n'
            'assert MODELS.get("PixelTextNeck") is ROOT_MODELS.get("PixelTextNeck")\n')
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


@pytest.mark.parametrize('time', ['once', 'again'])
def test_no_test_leaves_a_logger(time):
    """``own_state`` of conftest.py; under xdist the second may run where the first did not."""
    assert not MMLogger.check_instance_created('left behind')
    MMLogger.get_instance('left behind')
