"""Command lines: of launchers, options of configs, numbers."""

import os
from argparse import ArgumentParser
from pathlib import Path

from denseclip_mm.apis.command_line import parse_launched, positive, share

import pytest


@pytest.mark.parametrize(('words', 'rank'), [
    (['--local_rank', '2'], '2'), (['--local-rank=3'], '3'), ([], '0')])
@pytest.mark.parametrize('given', [None, '7'])
def test_command_lines_of_launchers(words: list[str], rank: str, given: str | None,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank that the environment has stands."""
    monkeypatch.setenv('LOCAL_RANK', 'of another run')
    monkeypatch.delenv('LOCAL_RANK')
    if given is not None:
        monkeypatch.setenv('LOCAL_RANK', given)
    args = parse_launched(ArgumentParser(), [
        *words, '--launcher', 'pytorch', '--cfg-options', 'a.b=1', 'c=[2,3]'])
    assert args.launcher == 'pytorch' and args.cfg_options == {'a.b': 1, 'c': [2, 3]}
    assert os.environ['LOCAL_RANK'] == (given or rank)


def test_paths_with_commas_and_spaces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One that is there is one path; what is no KEY=VALUE ends in the usage."""
    folder = tmp_path / 'my data, labelled'
    folder.mkdir()
    read = parse_launched(ArgumentParser(), ['--cfg-options', f'a={folder}', f'b={folder}/x'])
    assert read.cfg_options == {
        'a': str(folder), 'b': [str(tmp_path / 'mydata'), 'labelled/x']}
    for faulty in ('a', 'a=[1,'):
        with pytest.raises(SystemExit):
            parse_launched(ArgumentParser(), ['--cfg-options', faulty])
        assert f'expected KEY=VALUE, got {faulty}' in capsys.readouterr().err


def test_what_counts_is_one_or_more(capsys: pytest.CaptureFixture) -> None:
    parser = ArgumentParser()
    parser.add_argument('--scenes', type=positive)
    assert parser.parse_args(['--scenes', '12']).scenes == 12
    for word, message in (('0', 'argument --scenes: has to be 1 or more, got 0'),
                          ('-3', 'argument --scenes: has to be 1 or more, got -3'),
                          ('1.5', "argument --scenes: invalid positive value: '1.5'")):
        with pytest.raises(SystemExit, match='2'):
            parser.parse_args(['--scenes', word])
        assert message in capsys.readouterr().err


def test_a_share_is_0_to_1(capsys: pytest.CaptureFixture) -> None:
    parser = ArgumentParser()
    parser.add_argument('--opacity', type=share)
    assert [parser.parse_args(['--opacity', word]).opacity for word in ('0', '0.5', '1')] == [
        0, 0.5, 1]
    for word in ('7', '-0.1', 'nan', 'inf'):
        with pytest.raises(SystemExit, match='2'):
            parser.parse_args([f'--opacity={word}'])
        assert f'argument --opacity: has to be 0 to 1, got {float(word)}' in (
            capsys.readouterr().err)
