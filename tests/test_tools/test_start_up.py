"""What a start imports, and the tool that says where its time goes."""

import pytest

TOOL = 'analysis_tools/start_up'
# Each takes from 0.1 s to seconds, and is for drawing, a page, exports or data. (mmdet, which mmseg
# imports where it is installed, imports some of them itself.)
UNNEEDED = ['gradio', 'matplotlib', 'onnx', 'onnxruntime', 'pandas', 'pycocotools', 'tensorboard']


def test_a_start(load_tool, monkeypatch, capsys):
    """The first picture needs none of what is UNNEEDED; a process says so, and what it took."""
    tool = load_tool(TOOL)
    steps = list(tool.STEPS)
    monkeypatch.setitem(tool.STEPS, 'first picture', (
        f'{tool.STEPS["first picture"]}; early = {{*{UNNEEDED}}} & set(sys.modules); '
        'assert not early, early; assert gc.isenabled()'))
    monkeypatch.setitem(tool.STEPS, steps[-1], (
        f'{tool.STEPS[steps[-1]]}; assert "matplotlib" in sys.modules'))
    tool.main(['--without', 'mmdet', '--repeats', '1'])
    rows = [line.strip('| ').split(' | ')
            for line in capsys.readouterr().out.splitlines() if line.startswith('| ')][2:]
    assert [name for name, _, _ in rows] == steps
    total = 0
    for _, own, until_here in rows:
        total += float(own)
        assert float(until_here) == pytest.approx(total, abs=0.01 * len(rows))
    assert 1 < total < 60  # CPU seconds, about 4


def test_the_least_of_all_runs(load_tool, monkeypatch, capsys):
    tool = load_tool(TOOL)
    monkeypatch.setattr(tool, 'STEPS', {'one': '', 'two': ''})
    runs = iter([[0.25, 3], [0.5, 1]])
    monkeypatch.setattr(tool, 'run', lambda without: next(runs))
    tool.main(['--repeats', '2'])
    assert capsys.readouterr().out.endswith('| one | 0.25 | 0.25 |\n| two | 1.00 | 1.25 |\n')


def test_what_fails(load_tool, monkeypatch, capsys):
    tool = load_tool(TOOL)
    monkeypatch.setattr(tool, 'STEPS', {'one': 'import json', 'two': 'import colorsys'})
    with pytest.raises(SystemExit, match='error: ModuleNotFoundError: import of colorsys'):
        tool.main(['--without', 'colorsys', '--repeats', '1'])
    with pytest.raises(SystemExit, match='2'):
        tool.main(['--repeats', '0'])
    assert '--repeats: has to be 1 or more, got 0' in capsys.readouterr().err
    assert len(tool.run([])) == 2


def test_the_collector_is_left_as_it_was(load_tool, monkeypatch):
    """Also where an import of the package fails, and where it was at rest before."""
    tool = load_tool(TOOL)
    monkeypatch.setattr(tool, 'STEPS', {'fails': (
        'try:\n    import denseclip_mm\nexcept ImportError as error:\n    assert gc.isenabled()\n'
        'else:\n    raise AssertionError'), 'at rest': (
        'gc.disable()\ntry:\n    import denseclip_mm\nexcept ImportError as error:\n'
        '    assert not gc.isenabled()')})
    tool.run(['torch'])
