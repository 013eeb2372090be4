"""Hooks: a check before training, and the memory layout of the model."""

from denseclip_mm.models.neck import PixelTextNeck

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.models import BaseSegmentor
from mmseg.models.decode_heads.decode_head import BaseDecodeHead


class CheckClassesHook(Hook):
    """Refuses a run whose parts disagree about the classes or the embedding space.

    Compares the neck's class names, the ``num_classes`` of every head, the classes of the datasets,
    and the embedding channels of backbone and text tower.

    Raises:
        ValueError: before the first iteration; says which parts have how many.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Compare the model's parts."""
        modules = dict(runner.model.named_modules())
        necks = [module for module in modules.values() if isinstance(module, PixelTextNeck)]
        if not necks:
            return
        num_classes = len(necks[0].class_names)
        for name, module in modules.items():
            if isinstance(module, BaseDecodeHead) and module.num_classes != num_classes:
                raise ValueError(f'{name} has num_classes={module.num_classes}, but the neck has '
                                 f'{num_classes} class_names; make them equal')
            if isinstance(module, BaseSegmentor) and hasattr(module, 'backbone'):
                embed_dim = getattr(module.backbone, 'embed_dim', None)
                if embed_dim:
                    necks[0].check_embed_dim(embed_dim)

    def before_train(self, runner: Runner) -> None:
        """Compare the model with the training set, and with the validation set if there is one."""
        self._check_dataset(runner, runner.train_dataloader.dataset, 'training')
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Compare the model with the validation set."""
        self._check_dataset(runner, runner.val_dataloader.dataset, 'validation')

    def before_test(self, runner: Runner) -> None:
        """Compare the model with the test set."""
        self._check_dataset(runner, runner.test_dataloader.dataset, 'test')

    @staticmethod
    def _check_dataset(runner: Runner, dataset: object, kind: str) -> None:
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        for module in runner.model.modules():
            if isinstance(module, PixelTextNeck) and classes is not None \
                    and len(classes) != len(module.class_names):
                raise ValueError(f'the {kind} set has {len(classes)} classes, but the neck has '
                                 f'{len(module.class_names)} class_names; make them equal')


class ChannelsLastHook(Hook):
    """Stores convolutions with channels last, which GPUs prefer in mixed precision.

    Convolutions hand the layout on to their outputs, so the images need not be touched.
    """

    def before_train(self, runner: Runner) -> None:
        """Change the layout of the weights once they are there; no number changes."""
        runner.model.to(memory_format=torch.channels_last)

    before_val = before_test = before_train
