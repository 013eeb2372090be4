"""Hooks: checks before and in training, what was learned in words, the model's memory layout."""

import math
import re
from collections.abc import Iterator
from reprlib import repr as brief
from typing import Any

from denseclip_mm.apis.checkpoints.load import plain_model
from denseclip_mm.apis.checks.heads import check_heads, heads_of
from denseclip_mm.apis.checks.towers import check_pixels, check_text_tower, check_weights
from denseclip_mm.datasets import check_annotations
from denseclip_mm.models.class_order import MOST_CLASSES, TOO_MANY, disagreement
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.text import DiscreteContext

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

# Heads of detectors; a region proposal network has one class.
_OF_ALL_CLASSES = re.compile(r'(^|\.)(bbox|mask)_head(\.\d+)?$')


class CheckClassesHook(Hook):
    """Refuses a run whose parts disagree about the classes, the embedding space or the pixels.

    Compares the neck's class names, the ``num_classes`` of every head, the classes of the datasets
    (of each of those that are joined) and their order, the categories of COCO files
    (:func:`denseclip_mm.datasets.coco.check_annotations`), the embedding channels of backbone and
    text tower, and the data preprocessor's mean and standard deviation with those that the CLIP
    weights were trained with. Image and text tower have to be of one CLIP
    (:func:`denseclip_mm.apis.checks.towers.check_text_tower`), and the heads able to take the
    neck's maps (:func:`denseclip_mm.apis.checks.heads.check_heads`).

    Raises:
        FileNotFoundError: before the first iteration, if a tower's weights are not to be had.
        ValueError: before the first iteration; says which parts have how many.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Compare the model's parts."""
        model = plain_model(runner.model)
        starts = not runner._load_from and not runner._resume  # which bring both towers
        if starts:
            check_weights(model)
        check_pixels(model)
        if starts:
            check_text_tower(model)
        self._check_neck(model)
        check_heads(model)

    @staticmethod
    def _check_neck(model: nn.Module) -> None:
        modules = dict(model.named_modules())
        necks = [module for module in modules.values() if isinstance(module, PixelTextNeck)]
        if not necks:
            return
        num_classes = len(necks[0].class_names)
        heads = dict(heads_of(model))
        for name, module in modules.items():
            of_all = (name in heads or isinstance(module, BaseDecodeHead)
                      or _OF_ALL_CLASSES.search(name))
            if of_all and getattr(module, 'num_classes', num_classes) != num_classes:
                raise ValueError(f'{name} has num_classes={module.num_classes}, but the neck has '
                                 f'{num_classes} class_names; make them equal')
            if getattr(module, 'neck', None) is necks[0]:
                embed_dim = getattr(getattr(module, 'backbone', None), 'embed_dim', None)
                if embed_dim:
                    necks[0].check_embed_dim(embed_dim)
        for name, head in heads.items():
            _check_class_weights(name, head)

    def before_train(self, runner: Runner) -> None:
        """Compare the model with the training set, and with the validation set if there is one."""
        self._check_dataset(runner, runner.train_dataloader.dataset, 'training')
        loaders = ['train_dataloader']
        if runner.val_loop is not None:
            self.before_val(runner)
            loaders.append('val_dataloader')
        for line in check_annotations(runner.cfg, *loaders):
            runner.logger.warning(line)

    def before_val(self, runner: Runner) -> None:
        """Compare the model with the validation set."""
        self._check_dataset(runner, runner.val_dataloader.dataset, 'validation')

    def before_test(self, runner: Runner) -> None:
        """Compare the model with the test set."""
        self._check_dataset(runner, runner.test_dataloader.dataset, 'test')
        check_annotations(runner.cfg, 'test_dataloader')

    @staticmethod
    def _check_dataset(runner: Runner, dataset: object, kind: str) -> None:
        leaves = list(_leaves(dataset))
        classes, *others = [getattr(leaf, 'metainfo', {}).get('classes') for leaf in leaves]
        if (any(list(other or ()) != list(classes or ()) for other in others)
                or isinstance(getattr(dataset, 'metainfo', None), list)):  # mmdet's, of a palette
            raise ValueError(f'the {kind} set joins datasets of other classes or palettes '
                             f'({", ".join(map(brief, [classes, *others]))}); give all of them '
                             'the same metainfo')
        if classes is not None and len(classes) > MOST_CLASSES and any(map(_cuts_labels, leaves)):
            raise ValueError(TOO_MANY.format(f'the {kind} set', len(classes)))
        neck = getattr(plain_model(runner.model), 'neck', None)
        if not isinstance(neck, PixelTextNeck) or classes is None:
            return
        if fault := disagreement(neck.class_names, classes, f'the {kind} set'):
            raise ValueError(fault)


def _check_class_weights(name: str, head: nn.Module) -> None:
    if not hasattr(head, 'out_channels'):  # one of another kind, which knows what it needs
        return
    for key, loss in head.named_modules(prefix=name):
        weights = getattr(loss, 'class_weight', None)
        of_none = key.endswith('loss_cls')  # MaskFormer's queries may be of no class
        wanted = head.out_channels + of_none
        if loss is not head and hasattr(weights, '__len__') and len(weights) != wanted:
            raise ValueError(f'{key}.class_weight has {len(weights)} entries, but needs {wanted}: '
                             'one for each class' + (', and one for none' if of_none else ''))


def _leaves(dataset: Any) -> Iterator[Any]:
    """The datasets inside wrappers such as RepeatDataset and ConcatDataset."""
    inside = getattr(dataset, 'datasets', None) or [
        each for each in [getattr(dataset, 'dataset', None)] if each is not None]
    for each in inside:
        yield from _leaves(each)
    if not inside:
        yield dataset


def _cuts_labels(dataset: Any) -> bool:
    """Whether labels are loaded by mmseg's own step."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    return any(type(step) is LoadAnnotations for step in steps)


class CheckLossHook(Hook):
    """Stops a training whose loss is lost, and warns of batches that teach nothing.

    Reads the loss that mmengine has fetched for its log, so no GPU waits for it, and the labels
    where the dataloader left them.

    Args:
        patience: iterations in a row with a loss that is NaN or infinite, after which to stop; a
            single one may be a step that mixed precision leaves out.

    Raises:
        ValueError: if ``patience`` is less than 1.
        FloatingPointError: in training, after ``patience`` such losses.
    """

    priority = 'LOW'  # after the loss is in the log, before a checkpoint is written

    def __init__(self, *, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience} is too small; 1 stops at the first loss')
        self.patience = patience
        self.lost = self.void = self.batches = 0
        self.ignore_index = 255

    def before_train(self, runner: Runner) -> None:
        """Count from here."""
        self.lost = self.void = self.batches = 0
        head = getattr(plain_model(runner.model), 'decode_head', None)
        self.ignore_index = getattr(head, 'ignore_index', 255)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Look at the loss and the labels of an iteration."""
        loss = runner.message_hub.get_scalar('train/loss').current()
        self.lost = 0 if math.isfinite(loss) else self.lost + 1
        if self.lost == self.patience:
            raise FloatingPointError(
                f'the loss was NaN or infinite in {self.patience} iterations in a row, up to '
                f'iteration {runner.iter + 1}; lower the learning rate or clip gradients '
                '(optim_wrapper.clip_grad), and go on from a checkpoint before that')
        self.batches += 1
        if _without_label(data_batch, self.ignore_index):
            self.void += 1
            if self.void == 1:
                runner.logger.warning(
                    f'iteration {runner.iter + 1}: a batch without a single label, which teaches '
                    'nothing; tools/check_dataset.py says which masks are void. Such batches are '
                    'counted from here on')

    def after_train(self, runner: Runner) -> None:
        """Say how many batches were without a label."""
        if self.void:
            runner.logger.warning(f'{self.void} of {self.batches} batches had no label')


def _without_label(data_batch: Any, ignore_index: int) -> bool:
    """Whether a batch has labels, all of them void; a few rows and columns nearly always tell."""
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    labels = [sample.gt_sem_seg.data for sample in samples if 'gt_sem_seg' in sample]
    return bool(labels) and all((each[..., ::step, ::step] == ignore_index).all()
                                for step in (16, 1) for each in labels)


class PromptWordsHook(Hook):
    """Logs how a prompt of words reads once it has been learned (:class:`DiscreteContext`)."""

    def after_train(self, runner: Runner) -> None:
        """Log each template: one, or one for each text of the classes."""
        neck = getattr(plain_model(runner.model), 'neck', None)
        if not isinstance(neck, PixelTextNeck) or not isinstance(neck.prompt, DiscreteContext):
            return
        templates = neck.prompt.templates(neck.text_encoder)
        owners = neck.vocabulary.texts if neck.prompt.class_specific else ['all classes']
        for owner, template in zip(owners, templates, strict=True):
            runner.logger.info(f'the prompt of {owner} reads {template!r}')


class ChannelsLastHook(Hook):
    """Stores convolutions with channels last, which GPUs prefer in mixed precision.

    Convolutions hand the layout on to their outputs, so the images need not be touched.
    """

    def before_train(self, runner: Runner) -> None:
        """Change the layout of the weights once they are there; no number changes."""
        runner.model.to(memory_format=torch.channels_last)

    before_val = before_test = before_train
