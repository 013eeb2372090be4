"""The tools, end to end, on procedural scenes and a tiny model: as a user would call them.

Importing the package takes seconds: ``main`` runs here, but for what only a process shows.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from denseclip_mm.text import grow_trees

import mmseg
import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import IterBasedTrainLoop

ROOT = Path(__file__).resolve().parents[2]

VOCAB = 49408  # symbols from here on are learned vectors
DEMO = ROOT / 'configs/demo/denseclip_fpn_scenes.py'
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
SMALL = """
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64))
val_dataloader = dict(dataset=dict(image_size=64, length=6))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(interval=3, max_keep_ckpts=3, save_best='mIoU'))
"""


@pytest.fixture
def config(tmp_path, small_demo) -> Path:
    path = tmp_path / 'small.py'
    path.write_text(small_demo + SMALL)
    return path


def start(*words: object, cwd: Path, code: int = 0, **env: str) -> str:
    """What a process of Python on these words prints; it has to end with this code."""
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, text=True, timeout=400,
                          capture_output=True, env={**os.environ, **env})
    output = done.stdout + done.stderr
    assert done.returncode == code, output[-4000:]
    return output


STARTED = {'train', 'app', 'convert_checkpoint', 'analysis_tools/benchmark',
           'analysis_tools/draw_contexts', 'demo/compare_prompts'}  # by tests of their own
PARTS = {'analysis_tools/benchmark_measure', 'analysis_tools/benchmark_steps',
         'demo/comparison_options'}
TOOLS = {path.relative_to(ROOT / 'tools').with_suffix('').as_posix()
         for path in (ROOT / 'tools').rglob('*.py') if path.parent.name != 'page'} - PARTS


# Each in a process of its own, with what is neither ours nor mmseg's imported once for all.
HELP = """
import os, runpy, sys
import cv2, matplotlib.pyplot, open_clip, scipy, timm, torch, torchvision
for path in sys.argv[1:]:
    if os.fork() == 0:
        os.dup2(os.open(f'{path.replace(os.sep, "_")}.txt', os.O_WRONLY | os.O_CREAT), 1)
        sys.path[0], sys.argv = os.path.dirname(path), [path, '--help']
        runpy.run_path(path, run_name='__main__')
    assert os.wait()[1] == 0, path
"""


def test_each_starts_as_a_script(tmp_path):
    """The others, too, as a user would call them; the rest of their tests call ``main``."""
    paths = [ROOT / f'tools/{name}.py' for name in sorted(TOOLS - STARTED)]
    assert start('-c', HELP, *paths, cwd=tmp_path) == ''
    said = [path.read_text() for path in tmp_path.iterdir()]
    assert len(said) == len(paths) > 15 and all('usage: ' in each for each in said)


def test_the_model_zoo_is_of_these_configs(succeed):
    """Written anew: python tools/analysis_tools/list_configs.py; parameters are a sum done here."""
    page = (ROOT / 'docs/model_zoo.md').read_text()
    rows = [line for line in succeed('analysis_tools/list_configs', 'baselines',
                                     cwd=ROOT).splitlines() if line.startswith('| `')]
    assert len(rows) == 4 and all(f'{row}\n' in page for row in rows)
    cfg = Config.fromfile(DEMO)
    init_default_scope('mmseg')
    sizes = {name: each.numel() for name, each in MODELS.build(cfg.model).named_parameters()
             if not name.startswith('neck.text_encoder.')}
    assert (f'| `{DEMO.name}` | scenes | 128 x 128 | '
            f'{cfg.train_dataloader.batch_size} x {cfg.train_cfg.max_iters} | '
            f'{sum(sizes.values()) / 1e6:.1f} M | all |') in page


def test_time_and_memory_of_configs(tmp_path, small_demo, load_tool, monkeypatch, capsys):
    """Own batch and crop; '-' for the memory of a CPU, what is not learned, what is not here."""
    folder = tmp_path / 'configs/own'
    folder.mkdir(parents=True)
    (folder / 'metafile.yml').write_text('')
    (folder / 'a.py').write_text(f'{small_demo}train_dataloader = dict(batch_size=3)\n')
    (folder / 'b.py').write_text(f"_base_ = '{ROOT}/configs/demo/zero_shot_scenes.py'\n")
    (folder / 'c.py').write_text(
        "_base_ = './a.py'\nmodel = dict(neck=dict(text_encoder=dict(model=dict("
        "text_cfg=dict(hf_tokenizer_name='nobody/nothing')))))\n")
    tool = load_tool('analysis_tools/measure_configs')
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    tool.main(['own', '--device', 'cpu', '--repeats', '1'])
    rows = capsys.readouterr().out.split(f'{tool.HEADER}\n')[1].splitlines()
    cells = [row.strip('| ').split(' | ') for row in rows]
    assert [each[:2] for each in cells] == [
        ['`a.py`', '3 x 64 x 64'], ['`b.py`', '8 x 128 x 128'], ['`c.py`', '3 x 64 x 64']]
    numbers = [[cell != '-' for cell in each[2:]] for each in cells]
    assert numbers == [[True, False, True, False], [False, False, True, False], [False] * 4]
    for words, message in ((['other'], "invalid choice: 'other'"),
                           (['--repeats', '0'], '--repeats: has to be 1 or more, got 0'),
                           (['--device', 'cpu', '--amp'], 'is for a GPU, and the device is cpu')):
        with pytest.raises(SystemExit):
            tool.main(words)
        assert message in capsys.readouterr().err.splitlines()[-1]

    (folder / 'a.py').write_text(f'{small_demo}optim_wrapper = dict(optimizer=dict(lr=1e30))\n')
    with pytest.raises(SystemExit, match=r'error: .*a\.py: .* is .*nan'):
        tool.main(['own', '--device', 'cpu', '--repeats', '1'])


def last_miou(output: str) -> float:
    return float(output.rsplit('mIoU: ', 1)[1].split()[0])


def test_train_kill_resume_test(config, tmp_path, succeed):
    """Killed after its first checkpoint, training goes on from there; test.py agrees with it."""
    train = [config, '--work-dir', tmp_path / 'work']
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/train.py', *train, '--cfg-options',
         'train_cfg.max_iters=1000'],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = tmp_path / 'work/last_checkpoint'
    deadline = time.monotonic() + 300
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = int(Path(last.read_text()).stem.removeprefix('iter_'))
    assert killed_at % 3 == 0

    output = succeed('train', *train, '--resume', '--cfg-options',
                     f'train_cfg.max_iters={killed_at + 3}', cwd=tmp_path)
    assert f'resumed epoch: 0, iter: {killed_at}' in output
    assert f'Iter(train) [{killed_at + 1}/' in output
    assert f'Iter(train) [{killed_at}/' not in output
    trained = last_miou(output)

    checkpoint = tmp_path / f'work/iter_{killed_at + 3}.pth'
    tested = succeed('test', config, checkpoint, '--work-dir', tmp_path / 'test',
                     '--out', tmp_path / 'out', '--show-dir', 'shown', cwd=tmp_path)
    assert last_miou(tested) == trained
    assert len(list((tmp_path / 'shown').rglob('*scene-1-*.png'))) == 6
    assert len(list((tmp_path / 'out').glob('scene-1-*.png'))) == 6

    picture = tmp_path / 'picture.png'
    succeed('analysis_tools/draw_score_maps', config, checkpoint, picture,
            '--index', 2, '--classes', 'red circle', 'grass', cwd=tmp_path)
    assert picture.stat().st_size > 10_000


def test_stopped_training(config, tmp_path, run_tool, monkeypatch):
    """Ctrl-C, before the first checkpoint and after it."""
    run_iter = IterBasedTrainLoop.run_iter
    for last, left in (
            (1, 'there is no checkpoint yet; the same command begins anew'),
            (4, f'{tmp_path}/work/iter_3.pth is there; the same command with --resume goes on from '
                'it')):
        def stop(loop, batch, last=last):
            if loop.iter == last:
                raise KeyboardInterrupt
            run_iter(loop, batch)
        monkeypatch.setattr(IterBasedTrainLoop, 'run_iter', stop)
        done = run_tool('train', config, '--work-dir', 'work', cwd=tmp_path)
        assert done.returncode == 130 and 'Traceback' not in done.stderr
        assert done.stderr.splitlines()[-1] == f'stopped: {left}'


def test_trains_from_mmsegs_own_tool(config, tmp_path):
    """``custom_imports`` is all that mmseg's tools/train.py needs."""
    own = Path(mmseg.__file__).parent / '.mim/tools/train.py'
    if not own.is_file():
        pytest.skip('this mmseg ships no tools')
    output = start(own, config, '--work-dir', tmp_path / 'work', cwd=tmp_path)
    assert 'Iter(val) [1/1]' in output and 'mIoU: ' in output


def test_amp_is_refused_or_runs(config, tmp_path, run_tool):
    """``--amp`` works on a GPU; without one, a line says so before training."""
    done = run_tool('train', config, '--amp', '--work-dir', 'work', cwd=tmp_path)
    output = done.stdout + done.stderr
    if torch.cuda.is_available():
        assert "'AmpOptimWrapper'" in output
        assert done.returncode == 0, output[-4000:]
    else:
        assert 'error: --amp needs a GPU' in output.strip().splitlines()[-1]
        assert done.returncode == 1 and 'Traceback' not in output


def test_tta(config, tmp_path, succeed):
    with config.open('a') as file:
        file.write("tta_pipeline = [dict(type='TestTimeAug', transforms=["
                   "[dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)],"
                   "[dict(type='PackSegInputs')]])]\n")
    succeed('train', config, '--work-dir', tmp_path / 'work', cwd=tmp_path)
    checkpoint = tmp_path / 'work/iter_6.pth'
    plain = succeed('test', config, checkpoint, cwd=tmp_path)
    flipped = succeed('test', config, checkpoint, '--tta', cwd=tmp_path)
    assert np.isfinite([last_miou(plain), last_miou(flipped)]).all()


DUMP = """
from copy import deepcopy

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class DumpHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen = [sample.img_path for sample in data_batch['data_samples']]

    def before_train(self, runner):
        self.texts = []

    @torch.no_grad()
    def after_val_epoch(self, runner, metrics=None):
        neck = runner.model.module.neck
        (*_, kept), = neck.text_cache._entries.values()
        averaged = neck.prompt.contexts
        self.texts.append((kept, deepcopy(neck).train().text_embeddings(neck.vocabulary, None),
                           averaged.clone()))

    def after_train(self, runner):
        torch.save(dict(state=runner.model.module.state_dict(), seen=self.seen, texts=self.texts),
                   f'rank{get_rank()}.pth')
"""


def test_two_processes_hold_equal_parameters(config, tmp_path):
    """Also: the kept text is that of the averaged weights, in every validation."""
    (tmp_path / 'dump_hook.py').write_text(DUMP)
    with config.open('a') as file:
        file.write("custom_imports = dict(imports=['denseclip_mm', 'dump_hook'])\n"
                   "custom_hooks = [dict(type='EMAHook', momentum=0.5), "
                   "dict(type='DumpHook', priority='HIGH')]  # before EMAHook swaps back\n"
                   "optim_wrapper = dict(optimizer=dict(lr=0.01))\n"
                   "param_scheduler = []\n")
    output = start('-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone',
                   ROOT / 'tools/train.py', config, '--launcher', 'pytorch', '--work-dir',
                   tmp_path / 'work', cwd=tmp_path, PYTHONPATH=os.pathsep.join(
                       [str(tmp_path), os.environ.get('PYTHONPATH', '')]))
    assert 'Iter(train) [6/6]' in output
    first, second = (torch.load(tmp_path / f'rank{rank}.pth') for rank in (0, 1))
    assert not set(first['seen']) & set(second['seen'])  # each saw images of its own
    for key, value in first['state'].items():
        if 'running_' not in key:  # batch norm statistics are each process's own
            assert torch.equal(value, second['state'][key]), key
    for kept, fresh, _ in first['texts']:
        torch.testing.assert_close(kept, fresh, rtol=1e-4, atol=1e-5)
    (early, _, contexts), (late, _, later) = first['texts']
    assert not torch.allclose(early, late, rtol=1e-2) and not torch.equal(contexts, later)
    assert not torch.equal(later, first['state']['neck.prompt.contexts'])  # not the averaged ones


def test_camvid(shared, tmp_path, succeed):
    """The main job's config on real images: a few steps, a validation, and inference."""
    shutil.copytree(shared / 'data/camvid/annotations/val', tmp_path / 'data/annotations/val')
    shutil.copytree(shared / 'data/camvid/images/val', tmp_path / 'data/images/val')
    for folder in ('annotations', 'images'):
        for path in sorted((tmp_path / f'data/{folder}/val').iterdir())[4:]:
            path.unlink()
        (tmp_path / f'data/{folder}/train').symlink_to(f'{shared}/data/camvid/{folder}/train')
    root = tmp_path / 'data'
    output = succeed(
        'train', ROOT / 'configs/demo/denseclip_fpn_r50_camvid_cpu.py',
        '--work-dir', tmp_path / 'work', '--cfg-options', 'train_cfg.max_iters=2',
        'train_cfg.val_interval=2', 'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=2', 'default_hooks.checkpoint.save_optimizer=False',
        'default_hooks.checkpoint.save_best=None', 'train_dataloader.batch_size=2',
        f'train_dataloader.dataset.data_root={root}', f'val_dataloader.dataset.data_root={root}',
        cwd=tmp_path)
    assert 'bicyclist' in output and last_miou(output) > 0
    config, checkpoint = next((tmp_path / 'work').glob('*.py')), tmp_path / 'work/iter_2.pth'
    tested = succeed('test', config, checkpoint, '--show-dir', 'shown',
                     '--work-dir', tmp_path / 'test', '--cfg-options',
                     f'test_dataloader.dataset.data_root={root}', cwd=tmp_path)
    assert last_miou(tested) == last_miou(output)
    assert len(list((tmp_path / 'shown').rglob('*.png'))) == 4


def test_zero_shot_needs_no_checkpoint(tmp_path, succeed):
    output = succeed('test', ZERO_SHOT, '--work-dir', tmp_path / 'work',
                     '--cfg-options', 'test_dataloader.dataset.length=8', cwd=tmp_path)
    assert last_miou(output) > 15  # with random weights: 1


FEW = ['train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'train_dataloader.batch_size=2',
       'test_dataloader.dataset.length=4', 'default_hooks.checkpoint.interval=4']


@pytest.mark.one_stack
def test_compare_prompts(tmp_path):
    """A table of a few runs; a run that was lost is done again, the others are kept."""
    systems = ['zero_shot_scenes', 'coop_class_specific_scenes', 'clip_fpn_scenes',
               'denseclip_aggregate_scenes']
    compare = [ROOT / 'tools/demo/compare_prompts.py', '--out', tmp_path / 'out', '--jobs', 2,
               '--seeds', 0, 1, '--scenes', 4, '--systems', *systems, '--cfg-options', *FEW]
    first = start(*compare, cwd=tmp_path)
    results = {path.parent: (path.stat().st_mtime, json.loads(path.read_text()))
               for path in (tmp_path / 'out').rglob('result.json')}
    assert len(results) == 7  # one seed of the system without chance
    lost = tmp_path / 'out/denseclip_aggregate_scenes/scenes4-seed1'
    (lost / 'result.json').unlink()
    again = start(*compare, cwd=tmp_path)
    for folder, (written, result) in results.items():
        path = folder / 'result.json'
        assert (path.stat().st_mtime == written) == (folder != lost)
        assert json.loads(path.read_text()) == result
    assert 'resumed epoch: 0, iter: 4' in (lost / 'log.txt').read_text()

    table = (tmp_path / 'out/table.md').read_text()
    assert table in again
    assert table.splitlines()[0] in first
    rows = {line.split(' | ')[0].removeprefix('| '): line.rstrip(' |').split(' | ')[1:]
            for line in table.splitlines() if line.startswith('| ')}

    def results_of(name: str, column: str) -> list[float]:
        return [results[tmp_path / f'out/{name}/scenes4-seed{seed}'][1][column] for seed in (0, 1)]

    def cell(values: list[float], sign: str = '') -> str:
        return f'{np.mean(values):{sign}.1f} ± {np.std(values, ddof=1):.1f}'
    columns = table.splitlines()[0].strip('| ').split(' | ')[2:]
    assert columns[:6] == ['base, head', 'base, score map', 'new, head', 'new, score map',
                           'all, head', 'all, score map']
    baseline = results_of('clip_fpn_scenes', 'base, head')
    assert rows['CLIP + FPN, no language'][:8] == ['4', cell(baseline), *['-'] * 6]
    own = results_of('coop_class_specific_scenes', 'base, score map')  # takes no other names
    assert rows['CoOp, class-specific'][:8] == ['4', '-', cell(own), *['-'] * 5]
    assert rows['CoOp, class-specific'][8] == f'{30 * 4 * 64:,}'
    zero_shot = results[tmp_path / 'out/zero_shot_scenes/scenes4-seed0'][1]
    base, new, both = (zero_shot[f'{kind}, score map'] for kind in ('base', 'new', 'all'))
    assert rows['CLIP, one template'] == [
        '-', '-', f'{base:.1f}', '-', f'{new:.1f}', '-', f'{both:.1f}',
        f'{2 / (1 / base + 1 / new):.1f}', '0']
    for place, column in enumerate(columns[:6]):
        values = results_of('denseclip_aggregate_scenes', column)
        assert rows['DenseCLIP, aggregation head'][1 + place] == cell(values)
        other = (baseline if column == 'base, head' else
                 results_of('denseclip_aggregate_scenes', column.replace('head', 'score map')))
        over = 'no language' if column == 'base, head' else 'its score map'
        margins = [one - two for one, two in zip(values, other, strict=True)]
        if 'head' in column:
            assert (f'{column} over {over} {cell(margins, "+")} mIoU ({margins[0]:+.1f}, '
                    f'{margins[1]:+.1f})') in table
    assert (tmp_path / 'out/grid.png').stat().st_size > 20_000


@pytest.mark.parametrize('hooks', ['', 'custom_hooks = []\n'])
def test_a_run_without_checks_is_warned_of(tmp_path, small_demo, succeed, hooks):
    (tmp_path / 'own.py').write_text(small_demo + hooks)
    output = succeed('train', 'own.py', '--cfg-options', 'train_cfg.max_iters=1', cwd=tmp_path)
    said = "nothing is checked before training: custom_hooks lacks dict(type='CheckClassesHook')"
    assert (said in output) == bool(hooks)


def test_a_failed_run_is_named(tmp_path):
    output = start(ROOT / 'tools/demo/compare_prompts.py', '--out', 'out', '--jobs', 1,
                   '--seeds', 0, '--systems', 'coop_scenes', '--cfg-options',
                   'model.neck.prompt.num_contexts=4', cwd=tmp_path, code=1)
    assert 'error: out/coop_scenes/scenes16-seed0: ' in output
    assert "unexpected keyword argument 'num_contexts'" in output
    assert 'Traceback' not in output
    assert (tmp_path / 'out/coop_scenes/scenes16-seed0/log.txt').is_file()
    assert not list(tmp_path.rglob('table.md'))


@pytest.mark.one_stack
def test_benchmark(tmp_path, run_tool):
    """One small case: what is run, what is written. Memory is that of a process of its own."""
    output = start(ROOT / 'tools/analysis_tools/benchmark.py', '--cases', 'text', '--repeats', 1,
                   '--device', 'cpu', '--peaks', 2, 0.5, '--out', 'out', cwd=tmp_path)
    written = json.loads((tmp_path / 'out/benchmark.json').read_text())
    padded, tree = written['results']['text']
    assert padded['variant'] == 'padded to the longest name'
    assert padded['seconds_ratio'] == padded['memory_ratio'] == padded['flops_ratio'] == 1
    assert tree['seconds_ratio'] == tree['seconds'] / padded['seconds']
    assert pytest.approx(tree['flops_ratio'], rel=0.15) == 342 / 1950  # tokens, nearly
    assert padded['memory'] > tree['memory'] > 1e8
    assert f'| text | token tree | {1e3 * tree["seconds"]:.1f} |' in output
    floors = f'| {tree["flops"] / 2e9:.2f} | {tree["bytes"] / 0.5e9:.2f} |'
    assert output.split('| text | token tree |')[1].splitlines()[0].endswith(floors)
    refused = run_tool('analysis_tools/benchmark', '--cases', 'txt', cwd=tmp_path)
    assert refused.returncode == 2 and 'there is no case txt; there are infer-r50' in refused.stderr


def test_padded_text_costs_nothing_in_inference(load_tool, monkeypatch, tiny_resnet):
    """The benchmark's own cases, with a small CLIP: the same operations, since text is kept."""
    tiny_resnet['vision_cfg'].update(width=64)  # the channels of RN50
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'RN50-quickgelu', tiny_resnet)
    benchmark, measure = (load_tool(f'analysis_tools/benchmark{part}') for part in ('', '_measure'))
    cases = benchmark.cases_of(benchmark.Bench(
        device='cpu', batch_size=1, amp=None, channels_last=False, compile=False, image_size=64))
    operations = {}
    for case in ('infer-not-causal', 'text-not-causal'):
        for name, build in cases[case].items():
            step = build()
            step()
            operations[case, name] = measure.count(step)[0]
    assert (operations['infer-not-causal', 'padded to 64']
            == operations['infer-not-causal', 'token tree'] > 0)
    assert (operations['text-not-causal', 'padded to 64']
            > 5 * operations['text-not-causal', 'token tree'])


def test_bytes_of_a_matrix_product(load_tool):
    a, b = torch.zeros(3, 5), torch.zeros(5, 7, dtype=torch.float)
    with load_tool('analysis_tools/benchmark_measure').ByteCounter() as moved:
        (a.T.T @ b).view(21)  # views move nothing
    assert moved.total == 4 * (3 * 5 + 5 * 7 + 3 * 7) and moved.operators == 1


@pytest.mark.parametrize('length', [None, 77])
def test_the_padded_tower_computes_what_the_tree_does(build_pair, tiny_resnet, length, load_tool):
    """So that the benchmark compares two ways to the same numbers."""
    _, tower = build_pair(tiny_resnet)
    padded = load_tool('analysis_tools/benchmark').PaddedTextTower(model=tiny_resnet, length=length)
    padded.load_state_dict(tower.state_dict())
    prompts = [tower.prompt([VOCAB, VOCAB + 1], tower.tokenize(name))
               for name in ('sky', 'pool table', 'pool', 'street light')]
    trees, learned = grow_trees(prompts, max_tokens=8), torch.randn(3, 2, tower.width)
    assert len(trees) > 1
    assert padded.lay_out(trees)[0].shape == (4, length or 6)
    torch.testing.assert_close(padded(trees, learned), tower(trees, learned), rtol=1e-4, atol=1e-5)


def test_the_cell_loss_contrasts_what_all_cells_say(load_tool):
    """Compared with loops over images, captions and cells."""
    pretrain = load_tool('demo/pretrain_demo_clip')
    generator = torch.Generator().manual_seed(0)
    cells_BNC = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    text_BC = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    logits = np.array([[math.log(np.mean([math.exp(7 * float(cell @ text)) for cell in cells]))
                        for text in text_BC] for cells in cells_BNC])
    of_images = np.diag(logits) - np.log(np.exp(logits).sum(1))
    of_texts = np.diag(logits) - np.log(np.exp(logits).sum(0))
    loss = pretrain.CellClipLoss()(cells_BNC, text_BC, torch.tensor(7.0, dtype=torch.float64))
    assert float(loss) == pytest.approx(-(of_images.mean() + of_texts.mean()) / 2, rel=1e-9)


def test_pretraining_writes_an_open_clip_state_dict(tmp_path, succeed):
    """A few steps; open_clip's own model takes every tensor."""
    out = tmp_path / 'clip.pt'
    output = succeed('demo/pretrain_demo_clip', out, '--steps', 2, '--report-every', 1,
                     cwd=tmp_path)
    assert 'step 2, ' in output and 'zero-shot mIoU all' in output
    model = open_clip.CLIP(**open_clip.get_model_config('DemoCLIP'))
    missing = model.load_state_dict(torch.load(out, weights_only=True))
    assert not missing.missing_keys and not missing.unexpected_keys
    assert [path.name for path in tmp_path.iterdir()] == ['clip.pt']


@pytest.mark.parametrize(('words', 'message'), [
    (['train', 'configs/missing.py'], "there is no config 'configs/missing.py'"),
    (['train', f'{ROOT}/configs/denseclip_fpn.py'],
     "train_dataloader: there is no folder 'data/ade/ADEChallengeData2016'"),
    (['test', str(DEMO), 'nothing.pth'], "there is no checkpoint 'nothing.pth'"),
    (['test', str(DEMO)], 'this model learns'),
    (['train', str(ZERO_SHOT)], 'has nothing to learn; test it: tools/test.py'),
    (['analysis_tools/draw_score_maps', 'nothing.py', 'nothing.pth', 'out.png'],
     'there is no config'),
])
def test_one_line_errors(words, message, tmp_path, run_tool):
    done = run_tool(*words, cwd=tmp_path)
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(error) == 1 and message in error[0]
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(('tool', 'change', 'message'), [
    ('test', 'test_dataloader = test_cfg = test_evaluator = None', 'has no test_dataloader'),
    ('predict', 'test_pipeline = None', 'has no test_pipeline'),
    ('predict', 'test_dataloader = val_dataloader = None', 'give the checkpoint'),
    ('check_dataset', 'val_dataloader = test_dataloader = None', 'train_dataloader'),
    ('train', 'val_dataloader = None', 'val_cfg, and val_evaluator should be either all None'),
])
def test_splits_that_a_config_lacks(tool, change, message, config, tmp_path, run_tool):
    with config.open('a') as file:
        file.write(f'{change}\n')
    words = dict(test=['x.pth'], predict=['none', config]).get(tool, [])
    (tmp_path / 'x.pth').touch()
    done = run_tool(tool, config, *words, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_device_that_is_not_there(config, tmp_path, run_tool):
    done = run_tool('predict', config, 'none', config, '--device', 'cuda', cwd=tmp_path)
    assert done.stderr.strip().splitlines()[-1] == (
        'error: the device is cuda, but there is no GPU; leave it out')


def test_tta_of_joined_datasets(load_tool, config):
    tool = load_tool('test')
    args = tool.parse_args([str(config), '--tta'])
    cfg = tool.load_config(str(config), options=None, launcher='none', work_dir=None)
    cfg.tta_pipeline = [dict(type='PackSegInputs')]
    leaf = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[leaf, leaf])
    tool.apply_options(cfg, args)
    assert [each.pipeline for each in cfg.test_dataloader.dataset.datasets] == [
        cfg.tta_pipeline] * 2


def test_traceback_shows_the_rest(config, tmp_path, run_tool):
    words = ['train', config, '--cfg-options', 'model.neck.prompt.num_contexts=4']
    line = run_tool(*words, cwd=tmp_path).stderr.strip().splitlines()[-1]
    assert line.startswith('error: model.neck.prompt: TypeError: ')
    assert line.endswith("did you mean 'num_context'? (--traceback shows the rest)")
    assert 'Traceback' in run_tool(*words, '--traceback', cwd=tmp_path).stderr


@pytest.mark.parametrize(('option', 'message'), [
    ('model.decode_head.num_classes=31', 'class_weight has 30 entries, the head num_classes=31'),
    ('train_dataloader.dataset.metainfo.classes=["grass"]', 'training set has 1 classes'),
    ('model.neck.prompt.num_contexts=4', "unexpected keyword argument 'num_contexts'"),
    ('model.neck.class_names=ade20', "class_names='ade20' is neither a file nor a dataset"),
    ('model.neck.text_encoder.model=RN50-quickgelu',
     'image is embedded in 32 channels, the text in 1024'),
    ('model.backbone.pretrained=there.pt', 'so the text tower is random, but the backbone'),
    ('model.backbone.pretrained=/nowhere/RN50.pt', 'is neither a file nor one of the tags'),
    ('model.backbone.pretrained=/nowhere/RN50.pt '
     'model.neck.text_encoder.pretrained=/nowhere/RN50.pt',
     'is neither a file nor one of the tags'),
])
def test_bad_configs_stop_before_training(config, tmp_path, option, message, run_tool):
    (tmp_path / 'there.pt').touch()  # it is not read so early
    done = run_tool('train', config, '--work-dir', 'work', '--cfg-options', *option.split(),
                    cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr.strip().splitlines()[-1]
    assert 'Iter(train)' not in done.stdout + done.stderr
