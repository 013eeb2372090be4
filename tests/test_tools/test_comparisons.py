"""Mistakes on the command lines of comparisons end them before anything is computed."""

import pytest


@pytest.mark.parametrize('tool', ['compare_detection', 'compare_prompts', 'compare_regions',
                                  'measure_other'])
def test_a_mistake_is_one_line(run_tool, tmp_path, tool):
    done = run_tool(f'demo/{tool}', '--scenes', '0', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        'error: argument --scenes: has to be 1 or more, got 0')


@pytest.mark.parametrize('tool', ['compare_detection', 'compare_prompts'])
def test_a_misspelt_option_ends_before_the_first_run(run_tool, tmp_path, tool):
    done = run_tool(f'demo/{tool}', '--cfg-options', 'trian_cfg.max_iters=3', cwd=tmp_path)
    assert done.stderr.startswith('error: ') and len(done.stderr.splitlines()) == 1
    assert "no 'trian_cfg' in the config; did you mean 'train_cfg'" in done.stderr
    assert not (tmp_path / 'work_dirs').exists()
