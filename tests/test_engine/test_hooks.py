"""Hooks: parts that disagree are refused before training; the validation before and after."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from denseclip_mm.apis.checkpoints.load import start_zero_shot
from denseclip_mm.demo.render import CLASSES
from denseclip_mm.engine.hooks import CheckClassesHook

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import MODELS
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
NAMES = ['cat', 'dog', 'sky']
OTHER_CLIP = dict(embed_dim=64, vision_cfg=dict(layers=[1, 1, 1, 1], width=8), text_cfg=dict(
    context_length=77, vocab_size=49408, width=32, heads=2, layers=1))


def fake_runner(model: nn.Module, train: int = 3, val: int = 3, test: int = 3) -> SimpleNamespace:
    """What CheckClassesHook sees of a runner: a model and three sets of so many classes."""
    loaders = {
        f'{name}_dataloader': SimpleNamespace(dataset=SimpleNamespace(
            metainfo=dict(classes=[f'class {index}' for index in range(count)])))
        for name, count in dict(train=train, val=val, test=test).items()}
    return SimpleNamespace(model=model, val_loop='built', _load_from=None, _resume=False,
                           cfg=Config(), **loaders)


class Wrapper(nn.Module):
    """As DistributedDataParallel holds a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def check(runner: SimpleNamespace) -> None:
    hook = HOOKS.build(dict(type='CheckClassesHook'))
    hook.before_run(runner)
    hook.before_train(runner)
    hook.before_val(runner)
    hook.before_test(runner)


def merged(config: dict, changes: dict) -> dict:
    result = Config(dict(model=config))
    result.merge_from_dict(dict(model=deepcopy(changes)))
    return result.model


@pytest.mark.parametrize('wrap', [lambda model: model, Wrapper], ids=['plain', 'wrapped'])
@pytest.mark.parametrize(('changes', 'message'), [
    (dict(), None),
    (dict(decode_head=dict(num_classes=4)),
     r'decode_head has num_classes=4, but the neck has 3 class_names; make them equal'),
    (dict(auxiliary_head=dict(num_classes=2)),
     r'auxiliary_head has num_classes=2, but the neck has 3 class_names'),
    (dict(neck=dict(class_names=['cat;kitten', 'dog', 'sky'])), None),
    (dict(neck=dict(class_names=[*NAMES, 'sea'])),
     r'decode_head has num_classes=3, but the neck has 4 class_names'),
    (dict(neck=dict(text_encoder=dict(model=dict(embed_dim=16)))),
     r'image is embedded in 24 channels, the text in 16; .*set embed_dim of AlignedBackbone to 16'),
    (dict(backbone=dict(
        _delete_=True, type='AlignedBackbone', embed_dim=48, image_size=64, head_channels=16,
        backbone=dict(type='ResNet', depth=18, base_channels=16))),
     r'image is embedded in 48 channels, the text in 24; .*set embed_dim of AlignedBackbone to 24'),
])
def test_parts_of_the_model(changes: dict, message: str | None, wrap: type,
                            tiny_resnet: dict, model_config) -> None:
    runner = fake_runner(wrap(MODELS.build(merged(model_config(tiny_resnet, NAMES), changes))))
    if message is None:
        check(runner)
    else:
        with pytest.raises(ValueError, match=message):
            HOOKS.build(dict(type='CheckClassesHook')).before_run(runner)


def test_width_of_a_wrapped_backbone_is_its_own_affair(tiny_resnet: dict, model_config) -> None:
    """Swin and its like call the channels of their first stage embed_dim."""
    model = MODELS.build(merged(model_config(tiny_resnet, NAMES), dict(backbone=dict(
        _delete_=True, type='AlignedBackbone', embed_dim=24, image_size=64, head_channels=16,
        backbone=dict(type='ResNet', depth=18, base_channels=32)))))
    model.backbone.backbone.embed_dim = 96
    check(fake_runner(model))


@pytest.mark.parametrize(('counts', 'message'), [
    (dict(train=4), 'the training set has 4 classes, but the neck has 3 class_names; make them'),
    (dict(val=2), 'the validation set has 2 classes, but the neck has 3 class_names'),
    (dict(test=150), 'the test set has 150 classes, but the neck has 3 class_names'),
])
def test_classes_of_the_datasets(counts: dict, message: str, tiny_resnet: dict,
                                 model_config) -> None:
    with pytest.raises(ValueError, match=message):
        check(fake_runner(MODELS.build(model_config(tiny_resnet, NAMES)), **counts))


def test_the_same_names_in_another_order(tiny_resnet: dict, model_config) -> None:
    runner = fake_runner(MODELS.build(model_config(tiny_resnet, ['cat;kitten', 'dog', 'sky'])))
    runner.val_dataloader.dataset.metainfo['classes'] = ['dog', 'cat', 'sky']
    with pytest.raises(ValueError, match=r"validation set has the model's classes in another order"
                       r": 'dog' is its class 0 and class 1 of the model; the place of a name"):
        check(runner)


@pytest.mark.parametrize('join', [
    lambda first, second: SimpleNamespace(datasets=[first, second], metainfo=first.metainfo),
    lambda first, second: SimpleNamespace(  # mmdet's keeps both
        datasets=[first, second], metainfo=[first.metainfo, second.metainfo]),
    lambda first, second: SimpleNamespace(metainfo=first.metainfo, dataset=SimpleNamespace(
        datasets=[first, second], metainfo=first.metainfo)),
], ids=['mmengine', 'mmdet', 'repeated'])
def test_joined_datasets_have_the_same_classes(join: Callable, tiny_resnet: dict,
                                               model_config) -> None:
    """With ``ignore_keys=['classes']`` mmengine joins any."""
    runner = fake_runner(MODELS.build(model_config(tiny_resnet, NAMES)))
    first, second = (SimpleNamespace(metainfo=dict(classes=classes))
                     for classes in (NAMES, NAMES[::-1]))
    for kind, name in (('training', 'train'), ('validation', 'val'), ('test', 'test')):
        whole = getattr(runner, f'{name}_dataloader')
        alone, whole.dataset = whole.dataset, join(first, second)
        with pytest.raises(ValueError, match=rf'the {kind} set joins datasets of other classes or '
                           r'palettes \(.*\); give all of them the same metainfo'):
            check(runner)
        whole.dataset = alone
    runner.train_dataloader.dataset = SimpleNamespace(datasets=[first, first], metainfo=[{}, {}])
    with pytest.raises(ValueError, match='joins datasets of other classes or palettes'):
        check(runner)
    runner.train_dataloader.dataset.metainfo = first.metainfo
    check(runner)


def test_labels_of_more_than_a_byte(tiny_resnet: dict, model_config) -> None:
    """Mmseg's own step cuts them; a step of one's own may not."""
    class Own(LoadAnnotations):
        pass
    runner = fake_runner(MODELS.build(model_config(tiny_resnet, NAMES)), train=256)
    for step, message in ((LoadAnnotations(), 'training set has 256 classes, and LoadAnnotations'),
                          (Own(), 'training set has 256 classes, but the neck has 3')):
        runner.train_dataloader.dataset.pipeline = SimpleNamespace(transforms=[step])
        with pytest.raises(ValueError, match=message):
            check(runner)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(), None),
    (dict(mean=[122.77, 116.75, 104.09]), None),
    (dict(mean=[123.675, 116.28, 103.53]), r'mean=\[123.675, 116.28, 103.53\], but the weights'),
    (dict(std=[58.395, 57.12, 57.375]), r'std=\[58.395, 57.12, 57.375\], but the weights .demo. of '
     r'.DemoCLIP. were trained with \[68.5005, 66.6322, 70.3232\]; write model.data_prep.*\.std='),
    (dict(mean=[0.48, 0.46, 0.41]), r'mean=\[0.48, 0.46, 0.41\], but .* trained with \[122.7709'),
    (dict(mean=[104.09, 116.75, 122.77]), r'mean=\[104.09, 116.75, 122.77\], but the weights'),
    (dict(mean=[0.0], std=[1.0]), r'mean=\[0.0\], but the weights'),
])
def test_pixels_are_those_of_the_weights(options: dict, message: str | None) -> None:
    cfg = Config.fromfile(ROOT / 'configs/demo/clip_fpn_scenes.py')
    cfg.model.data_preprocessor.update(options)
    runner = fake_runner(Wrapper(MODELS.build(cfg.model)))
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type='CheckClassesHook')).before_run(runner)


def test_pixels_of_a_file_that_does_not_tell(tmp_path: Path) -> None:
    """A state dict: what is given, and what the tags of the model were trained with."""
    cfg = Config.fromfile(ROOT / 'configs/demo/clip_fpn_scenes.py').model
    (tmp_path / 'clip.pt').touch()
    model = MODELS.build(cfg)
    logger = MMLogger.get_current_instance()
    for name, known in (('DemoCLIP', ''), ('ViT-L-14', r"'ViT-L-14' that open_clip knows have "
                         r'mean=\[122.7709, 116.746, 104.0937\], .* or mean=\[127.5, 127.5, ')):
        model.backbone.model, model.backbone.pretrained = name, str(tmp_path / 'clip.pt')
        with patch.object(logger, 'warning') as warning:
            HOOKS.build(dict(type='CheckClassesHook')).before_run(fake_runner(model))
        said = warning.call_args.args[0] % warning.call_args.args[1:]
        assert re.search(r'clip\.pt does not tell .* data_preprocessor has mean=\[122.7709, '
                         r'116.746, 104.0937\], std=\[68.5005, 66.6322, 70.3232\]' + (
                             rf'; the weights of {known}' if known else '$'), said), said


@pytest.mark.parametrize(('text', 'message'), [
    (dict(model='DemoCLIP', pretrained='demo'), None),
    (dict(model='DemoCLIP'), 'text_encoder.pretrained is None, so the text tower is random, but '
     "the backbone has the weights 'demo'; write neck.text_encoder.model='DemoCLIP', "
     "neck.text_encoder.pretrained='demo'"),
    (dict(model='DemoCLIP', pretrained='other.pt'), "text tower is 'other.pt' of 'DemoCLIP', the "
     "backbone 'demo' of 'DemoCLIP'; two CLIPs share no embeddings"),
    (dict(model=OTHER_CLIP, pretrained='demo'), 'two CLIPs share no embeddings'),
])
def test_text_tower_is_of_the_same_clip(text: dict, message: str | None, tmp_path: Path,
                                        monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('other.pt').touch()
    cfg = Config.fromfile(ROOT / 'configs/demo/zero_shot_scenes.py')
    cfg.model.neck.text_encoder = dict(type='CLIPTextTower', **text)
    hook = HOOKS.build(dict(type='CheckClassesHook'))
    runner = fake_runner(MODELS.build(cfg.model))
    with nullcontext() if message is None else pytest.raises(ValueError, match=re.escape(message)):
        hook.before_run(runner)
    if message is not None:
        with pytest.raises(ValueError, match=re.escape(message)):
            start_zero_shot(runner.model)
        runner._load_from = 'iter_80000.pth'  # has both towers
        hook.before_run(runner)


@pytest.mark.parametrize(('name', 'tower'), [
    ('zero_shot_scenes', 'backbone'), ('zero_shot_scenes', 'neck.text_encoder'),
    ('clip_fpn_scenes', 'backbone')])
@pytest.mark.parametrize(('pretrained', 'message'), [
    ('RN50x.pt', "pretrained='RN50x.pt' is neither a file nor one of the tags that open_clip has"),
    ('local-dir:clip', r"there is no folder 'clip' \(looked from "),
])
def test_weights_that_are_not_there_come_first(
        pretrained: str, message: str, name: str, tower: str) -> None:
    """Before a warning that they do not tell their pixels, and before the towers are compared."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{name}.py')
    cfg.merge_from_dict({f'model.{tower}.pretrained': pretrained})
    model = MODELS.build(cfg.model)
    hook = HOOKS.build(dict(type='CheckClassesHook'))
    with patch.object(MMLogger.get_current_instance(), 'warning') as warning, \
            pytest.raises(FileNotFoundError, match=f'^{tower}: {message}'):
        hook.before_run(fake_runner(model))
    warning.assert_not_called()
    if name == 'zero_shot_scenes':
        with pytest.raises(FileNotFoundError, match=f'^{tower}: {message}'):
            start_zero_shot(model)


def test_training_without_validation(tiny_resnet: dict, model_config) -> None:
    runner = fake_runner(MODELS.build(model_config(tiny_resnet, NAMES)), val=4)
    runner.val_loop = None
    HOOKS.build(dict(type='CheckClassesHook')).before_train(runner)


def test_datasets_without_classes_and_models_without_language(tiny_resnet: dict,
                                                              model_config) -> None:
    runner = fake_runner(MODELS.build(model_config(tiny_resnet, NAMES)))
    for loader in (runner.train_dataloader, runner.val_dataloader, runner.test_dataloader):
        loader.dataset = [1, 2, 3]
    check(runner)
    check(fake_runner(nn.Conv2d(1, 1, 1)))


def run_config(model: dict, tmp_path: Path, *hooks: dict, **default_hooks: dict) -> Config:
    """Two iterations on two scenes, and a validation after them."""
    loader = dict(
        batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='ScenesDataset', length=2, image_size=64,
                     pipeline=[dict(type='PackSegInputs')]))
    return Config(dict(
        default_scope='mmseg', work_dir=str(tmp_path), experiment_name=tmp_path.name,
        model=model, randomness=dict(seed=0),
        train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler', shuffle=False)),
        val_dataloader=loader, val_evaluator=dict(type='IoUMetric'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
        val_cfg=dict(type='ValLoop'), log_processor=dict(by_epoch=False),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)), custom_hooks=list(hooks),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10, save_last=False),
            **default_hooks)))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(decode_head=dict(num_classes=41)), 'decode_head has num_classes=41'),
    (dict(neck=dict(class_names=NAMES), decode_head=dict(num_classes=3),
          auxiliary_head=dict(num_classes=3)), 'the training set has 42 classes'),
    (None, 'the validation set has 2 classes'),
])
def test_run_stops_before_the_first_iteration(changes: dict | None, message: str,
                                              tiny_resnet: dict, tmp_path: Path,
                                              model_config) -> None:
    config = run_config(model_config(tiny_resnet, CLASSES), tmp_path, dict(type='CheckClassesHook'))
    if changes is None:
        config.val_dataloader.dataset.metainfo = dict(classes=list(CLASSES[:2]))
    else:
        config.model = merged(config.model, changes)
    runner = Runner.from_cfg(config)
    before = deepcopy(runner.model.state_dict())
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0
    for name, tensor in runner.model.state_dict().items():
        if name.endswith('num_batches_tracked'):
            assert torch.equal(tensor, before[name])


def lossy_runner(config: Config, losses: list[float], monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A runner whose model says these losses, an iteration each."""
    config.train_cfg.max_iters = len(losses)
    config.pop('val_dataloader'), config.pop('val_evaluator'), config.pop('val_cfg')
    config.train_cfg.pop('val_interval')
    runner, given = Runner.from_cfg(config), iter(losses)
    monkeypatch.setattr(type(runner.model), 'train_step',
                        lambda *_, **__: dict(loss=torch.tensor(next(given))))
    return runner


@pytest.mark.parametrize(('losses', 'stops'), [
    ([1.0, float('nan'), float('inf'), 1.0, float('nan'), float('nan')], None),
    ([1.0, float('nan'), float('inf'), float('-inf'), 1.0], 4),
])
def test_a_lost_loss_stops_the_training(losses: list[float], stops: int | None, tiny_resnet: dict,
                                        tmp_path: Path, model_config,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config(model_config(tiny_resnet, CLASSES), tmp_path,
                        dict(type='CheckLossHook', patience=3))
    runner = lossy_runner(config, losses, monkeypatch)
    with nullcontext() if stops is None else pytest.raises(
            FloatingPointError, match=f'in 3 iterations in a row, up to iteration {stops}; lower'):
        runner.train()
    assert runner.iter == (len(losses) if stops is None else stops - 1)
    with pytest.raises(ValueError, match='patience=0 is too small'):
        HOOKS.build(dict(type='CheckLossHook', patience=0))


def test_batches_without_a_label(tiny_resnet: dict, tmp_path: Path, model_config,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """One line at the first of them, their number at the end; a single pixel is a label."""
    config = run_config(model_config(tiny_resnet, CLASSES), tmp_path, dict(type='CheckLossHook'))
    runner, lines, seen = lossy_runner(config, [1.0] * 5, monkeypatch), [], iter(range(5))
    monkeypatch.setattr(runner.logger, 'warning', lines.append)

    class Void(Hook):
        priority = 'VERY_HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            number = next(seen)
            for sample in data_batch['data_samples']:
                if number != 1:
                    sample.gt_sem_seg.data[:] = 255
            if number == 3:
                sample.gt_sem_seg.data[0, 5, 5] = 7
    runner.register_hook(Void())
    runner.train()
    assert len(lines) == 2 and lines[0].startswith('iteration 1: a batch without a single label')
    assert lines[1] == '3 of 5 batches had no label'


@pytest.mark.parametrize(('options', 'owners'), [
    (dict(init_words='a photo of a'), ['all classes']),
    (dict(init_words='a photo of a', class_specific=True), NAMES)])
def test_words_that_were_learned_are_logged(options: dict, owners: list[str], tiny_resnet: dict,
                                            model_config, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    logger = SimpleNamespace(info=lines.append)
    hook = HOOKS.build(dict(type='PromptWordsHook'))
    for prompt in (dict(type='DiscreteContext', **options), dict(type='LearnedContext')):
        model = MODELS.build(merged(model_config(tiny_resnet, NAMES), dict(
            neck=dict(prompt=dict(_delete_=True, **prompt)))))
        model.neck.prompt.start_from_words(model.neck.text_encoder)
        hook.after_train(SimpleNamespace(model=Wrapper(model), logger=logger))
    assert lines == [f"the prompt of {owner} reads 'a photo of a {{}}'" for owner in owners]


def test_a_learning_rate_that_is_too_high(tmp_path: Path, small_demo: str, run_tool) -> None:
    """The tool ends in one line, with the hook of the default configs."""
    config = tmp_path / 'hot.py'
    config.write_text(f"""{small_demo}
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64))
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=1e18))
""")
    done = run_tool('train', config, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        'error: the loss was NaN or infinite in 10 iterations in a row, up to iteration 1')


SWITCHES = {
    'bfloat16': (dict(optim_wrapper=dict(type='AmpOptimWrapper', dtype='bfloat16')), 0.03),
    'channels last': (dict(custom_hooks=[dict(type='ChannelsLastHook')]), 1e-4),
    'compiled': (dict(compile=dict(backend='aot_eager')), 1e-4),
}


@pytest.mark.parametrize(('switch', 'error'), SWITCHES.values(), ids=SWITCHES.keys())
def test_switches_of_a_config(switch: dict, error: float, tiny_resnet: dict, tmp_path: Path,
                              monkeypatch: pytest.MonkeyPatch, model_config) -> None:
    """Each changes one key of a config; losses and trained weights are the same but for rounding.

    mmengine refuses AmpOptimWrapper without a GPU, though it runs on a CPU.
    """
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    torch.compiler.reset()
    losses, trained = [], []
    for changes in ({}, switch):
        config = run_config(model_config(tiny_resnet, CLASSES), tmp_path / f'run{len(losses)}')
        config.model.decode_head.dropout_ratio = 0
        config.optim_wrapper.optimizer.lr = 0.01
        config.merge_from_dict(deepcopy(changes))
        runner = Runner.from_cfg(config)
        runner.train()
        assert torch.isfinite(torch.tensor(runner.val_loop.run()['mIoU']))
        losses.append(runner.message_hub.get_scalar('train/loss').data[0])
        trained.append(runner.model.decode_head.conv_seg.weight.detach().clone())
    assert losses[1] == pytest.approx(losses[0], rel=error)
    difference = (trained[1] - trained[0]).norm() / trained[0].norm()
    assert difference < 3 * error
    if changes.get('optim_wrapper'):
        assert difference > 1e-5, 'nothing was rounded'


def test_check_comes_before_every_other_hook() -> None:
    assert CheckClassesHook.priority == 'VERY_HIGH'
