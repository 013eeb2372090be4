"""Hooks: parts that disagree are refused before training; the validation before and after."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

from denseclip_mm.demo.render import CLASSES
from denseclip_mm.engine.hooks import CheckClassesHook

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

NAMES = ['cat', 'dog', 'sky']


def fake_runner(model: nn.Module, train: int = 3, val: int = 3, test: int = 3) -> SimpleNamespace:
    """What CheckClassesHook sees of a runner: a model and three sets of so many classes."""
    loaders = {
        f'{name}_dataloader': SimpleNamespace(dataset=SimpleNamespace(
            metainfo=dict(classes=[f'class {index}' for index in range(count)])))
        for name, count in dict(train=train, val=val, test=test).items()}
    return SimpleNamespace(model=model, val_loop='built', **loaders)


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
        backbone=dict(type='ResNet', depth=18, base_channels=16)))))
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
