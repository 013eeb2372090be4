"""Predictions of a test as files, which keep the folders of their images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from denseclip_mm.apis.pictures import load_image, loading_step, shown
from denseclip_mm.engine.storage import WholeVisBackend
from denseclip_mm.files import atomic_write

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, Visualizer
from mmseg.engine import SegVisualizationHook
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset


def picture_name(path: str, dataset: Dataset) -> str:
    """The path of an image below the folder of the dataset's images, with its ending.

    Args:
        path: of the image.
        dataset: mmseg's, or a wrapper around such; the folder is then the one that they share.

    Examples:
        >>> from denseclip_mm.demo import ScenesDataset
        >>> scenes = ScenesDataset(length=3, seed=1)
        >>> picture_name(scenes[2]['img_path'], scenes)
        'scene-1-2.png'
    """
    folders = [getattr(leaf, 'data_prefix', {}).get('img_path') or '' for leaf in _leaves(dataset)]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # some absolute, some relative
        root = ''
    whole = PurePosixPath(path)
    if whole.is_relative_to(root):
        whole = whole.relative_to(root)
    return '/'.join(part for part in whole.parts if part not in ('/', '..'))


def _leaves(dataset: Dataset) -> Iterator[Dataset]:
    if hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset)
    elif hasattr(dataset, 'datasets'):
        for each in dataset.datasets:
            yield from _leaves(each)
    else:
        yield dataset


def check_name(visualizer: Visualizer, name: str) -> None:
    """Refuse a name with folders where it would be lost.

    Raises:
        ValueError: if a backend of the visualiser drops it without a word.
    """
    if '/' in name and any(isinstance(backend, LocalVisBackend)
                           and not isinstance(backend, WholeVisBackend)
                           for backend in visualizer._vis_backends.values()):
        raise ValueError(f'LocalVisBackend cannot write {name!r} into a folder; name '
                         'WholeVisBackend in vis_backends')


class LabelMapHook(Hook):
    """Writes the label map of every image of a test, as a PNG file.

    Labels are as in the files of the dataset: from 1 on where it has ``reduce_zero_label``; 16 bits
    where 8 do not hold the classes.

    Args:
        out_dir: folder; the images' own folders are kept in it.
    """

    def __init__(self, *, out_dir: str) -> None:
        self.out_dir = out_dir

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict[str, Any],
                        outputs: Sequence[SegDataSample]) -> None:
        """Write the label maps of a batch."""
        dataset = runner.test_dataloader.dataset
        for sample in outputs:
            first = int(sample.get('reduce_zero_label', False))
            bits = np.uint8 if len(dataset.metainfo['classes']) + first <= 256 else np.uint16
            labels = sample.pred_sem_seg.data[0].cpu().numpy() + first
            path = Path(self.out_dir) / picture_name(sample.img_path, dataset)
            with atomic_write(path.with_suffix('.png')) as part:
                Image.fromarray(labels.astype(bits)).save(part)


class PredictionVisualizationHook(SegVisualizationHook):
    """mmseg's ``SegVisualizationHook``, which keeps the images' folders.

    On both stacks, every image of every ``interval``-th batch is drawn. The options are:

    Args:
        draw: whether predictions are drawn.
        interval: batches from one that is drawn to the next.
        show: whether they are shown in a window, and not written.
        wait_time: seconds that each is shown.
        backend_args: of no effect: images are loaded by the step of the dataset.

    Raises:
        ValueError: if a ``LocalVisBackend`` would lose a picture in a folder.
    """

    # onedl's SegVisualizationHook has these two for _after_iter.
    after_val_iter = Hook.after_val_iter
    after_test_iter = Hook.after_test_iter

    def _after_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                    outputs: Sequence[SegDataSample] = (), mode: str = 'train') -> None:
        if not self.draw or mode == 'train' or not self.every_n_inner_iters(
                batch_idx, self.interval):
            return
        loader = runner.val_dataloader if mode == 'val' else runner.test_dataloader
        for sample in outputs:
            name = f'{mode}_{picture_name(sample.img_path, loader.dataset)}'
            check_name(self._visualizer, name)
            image = shown(load_image(sample.img_path, loading_step(loader.dataset))['img'])
            self._visualizer.add_datasample(name, image, data_sample=sample, show=self.show,
                                            wait_time=self.wait_time, step=runner.iter)
