"""What a model sees, in mmseg's visualiser: image, truth, prediction and score maps.

Shapes: K classes, H, W size of the image.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from denseclip_mm.apis.checkpoints.load import plain_model
from denseclip_mm.apis.pictures import load_image, loading_step, shown
from denseclip_mm.apis.pictures.panels import draw_panels
from denseclip_mm.apis.segmentation import score_map_of
from denseclip_mm.engine.prediction_hooks import check_name, picture_name
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.models import CascadeEncoderDecoder, EncoderDecoder
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.data import DataLoader


class ScoreMapVisualizationHook(Hook):
    """Adds pictures of images, labels and score maps to the visualiser, in validation and test.

    A picture has the image, the ground truth if there is one, the prediction, and the score maps of
    some classes (:func:`draw_sample`). Every backend of the runner's visualiser gets it:
    ``LocalVisBackend`` writes a file, ``TensorboardVisBackend`` shows it. With several processes
    the first one draws, of its own images.

    Args:
        classes: names of the classes whose score maps are drawn, or how many of those that are
            largest in the picture, ground truth and prediction together.
        interval: images from one drawn image to the next; the first one is drawn.

    Raises:
        ValueError: if an option is not one of the above; before the first iteration, if the model
            has no score map or lacks a class.
    """

    def __init__(self, *, classes: int | Sequence[str] = 3, interval: int = 50) -> None:
        if not classes or isinstance(classes, str) or (isinstance(classes, int) and classes < 0):
            raise ValueError(f'classes={classes!r} is neither a list of class names nor a number '
                             'of classes to draw')
        if interval < 1:
            raise ValueError(f'interval={interval} is too small; 1 draws every image')
        self.classes = classes
        self.interval = interval
        self.seen = 0

    def before_run(self, runner: Runner) -> None:
        """Refuse a model that cannot be drawn."""
        check_classes(plain_model(runner.model), self.classes)

    def before_val_epoch(self, runner: Runner) -> None:
        """Count images from the first one."""
        self.seen = 0

    before_test_epoch = before_val_epoch

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict[str, Any],
                       outputs: Sequence[SegDataSample]) -> None:
        """Draw an image of the batch if it is its turn."""
        self._draw(runner, runner.val_dataloader, 'val', data_batch, outputs)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict[str, Any],
                        outputs: Sequence[SegDataSample]) -> None:
        """Draw an image of the batch if it is its turn."""
        self._draw(runner, runner.test_dataloader, 'test', data_batch, outputs)

    def _draw(self, runner: Runner, loader: DataLoader, mode: str, data_batch: dict[str, Any],
              outputs: Sequence[SegDataSample]) -> None:
        first, self.seen = self.seen, self.seen + len(outputs)
        if not is_main_process():
            return
        for index, sample in enumerate(outputs):
            if (first + index) % self.interval == 0:
                picture = draw_sample(plain_model(runner.model), data_batch, index, sample,
                                      self.classes, loader.dataset.metainfo['palette'],
                                      loading_step(loader.dataset))
                path = PurePosixPath(picture_name(sample.img_path, loader.dataset))
                name = f'score_maps_{mode}_{path.with_suffix("")}'
                check_name(runner.visualizer, name)
                runner.visualizer.add_image(name, picture, runner.iter)


def check_classes(model: nn.Module, classes: int | Sequence[str]) -> None:
    """Refuse what cannot be drawn.

    Args:
        model: a segmentor.
        classes: names of classes, or a number of them.

    Raises:
        ValueError: if the model has no :class:`PixelTextNeck`, is a cascade of heads, or one of the
            names is not among its classes.
    """
    if isinstance(model, CascadeEncoderDecoder):
        raise ValueError('the score maps of a CascadeEncoderDecoder are not drawn; take the '
                         'ScoreMapVisualizationHook out')
    neck = getattr(model, 'neck', None)
    if not isinstance(neck, PixelTextNeck):
        raise ValueError('there are no score maps to draw: the neck of the model is '
                         f'{type(neck).__name__}, not PixelTextNeck')
    missing = [] if isinstance(classes, int) else sorted(set(classes) - set(neck.class_names))
    if missing:
        raise ValueError(f'the model has no class {missing[0]!r} to draw the score map of; it has '
                         f'{", ".join(neck.class_names)}')


def draw_sample(model: EncoderDecoder, data_batch: dict[str, Any], index: int,
                result: SegDataSample, classes: int | Sequence[str],
                palette: Sequence[Sequence[int]], loading: BaseTransform) -> np.ndarray:
    """Draw an image, its ground truth if it has one, its prediction and score maps.

    A model with another head is drawn beside what its score maps alone would say.

    Args:
        model: see :func:`score_map_of`.
        data_batch: a batch of the dataloader.
        index: which image of the batch.
        result: what the model made of the image; the image is loaded from its ``img_path``.
        classes: names of the classes to draw, or how many of those that are largest in ground truth
            and prediction together.
        palette: RGB of each class.
        loading: the config's step that loads images, see :func:`loading_step`.

    Returns:
        The picture of :func:`denseclip_mm.apis.pictures.panels.draw_panels`.
    """
    names = model.neck.class_names
    labels = {}
    if 'gt_sem_seg' in result:
        labels['ground truth'] = result.gt_sem_seg.data[0].cpu().numpy()
    labels['prediction'] = result.pred_sem_seg.data[0].cpu().numpy()
    if isinstance(classes, int):
        known = [label_map[label_map < len(names)] for label_map in labels.values()]
        present, areas = np.unique(np.concatenate(known), return_counts=True)
        chosen = present[np.argsort(-areas, kind='stable')[:classes]].tolist()
    else:
        chosen = [names.index(name) for name in classes]
    scores_KHW = score_map_of(model, data_batch, index).float().cpu().numpy()
    if not isinstance(model.decode_head, ScoreMapHead):
        labels['score maps alone'] = scores_KHW.argmax(0)
    image = shown(load_image(result.img_path, loading)['img'])
    return draw_panels(image, labels, {index: scores_KHW[index] for index in chosen}, names=names,
                       palette=palette)
