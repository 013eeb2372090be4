"""Pictures in, labels and score maps out, with names chosen at run time.

mmseg's ``init_model``, ``inference_model`` and ``MMSegInferencer`` take these models as they are;
:class:`Predictor` adds what they have no place for: other names, score maps, zero-shot models.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from denseclip_mm.apis.checkpoint import load_checkpoint
from denseclip_mm.apis.config import dataset_leaves, load_config
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.apis.pictures import distinct_colours, paint
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.text import TextEmbeddings

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from mmseg.apis import init_model
from mmseg.models import BaseSegmentor
from mmseg.registry import DATASETS
from torch import Tensor


@dataclass
class Prediction:
    """A segmented picture.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W), indices of ``class_names``.
        score_map: (K, h, w) cosine of every cell with every class; None for a model without
            language.
        class_names: the K classes.
        palette: RGB of each class.
    """

    image: np.ndarray
    labels: np.ndarray
    score_map: np.ndarray | None
    class_names: list[str]
    palette: list[tuple[int, int, int]]

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The picture with its classes painted over it: (H, W, 3) uint8, RGB."""
        return cv2.addWeighted(paint(self.labels, self.palette), opacity,
                               self.image, 1 - opacity, 0)

    def shares(self) -> dict[int, float]:
        """Share of the picture of every class that occurs, largest first."""
        classes, pixels = np.unique(self.labels, return_counts=True)
        order = np.argsort(-pixels, kind='stable')
        return {int(classes[i]): float(pixels[i]) / self.labels.size for i in order}


class Predictor:
    """A model with its weights, for pictures of any size.

    Args:
        config: config file; its ``test_pipeline`` starts with a loading step.
        checkpoint: checkpoint file; None for a zero-shot model.
        device: where it runs; None takes a GPU if there is one.
        class_names: other names for the model, see :meth:`set_class_names`.

    Raises:
        FileNotFoundError: if config or checkpoint are not there.
        ValueError: if the checkpoint is not one of this model, the model would need one, or the
            names are faulty.
    """

    def __init__(self, config: str | Path, checkpoint: str | Path | None = None, *,
                 device: str | None = None,
                 class_names: str | Sequence[str] | None = None) -> None:
        cfg = load_config(str(config), options=None, launcher='none', work_dir=None)
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.model = init_model(cfg, device=device)
        self.pipeline = Compose([  # of pictures that are loaded already
            dict(type='LoadImageFromNDArray'),
            *(step for step in cfg.test_pipeline[1:] if step.type != 'LoadAnnotations')])
        meta = {}
        if checkpoint is None:
            with _quiet():
                start_zero_shot(self.model)
        else:
            meta = load_checkpoint(self.model, checkpoint).get('dataset_meta') or {}
        self.class_names, palette = _classes(self.model, meta)
        self.palette = palette or distinct_colours(len(self.class_names))
        self._tell_model()
        if class_names is not None:
            self.set_class_names(class_names)

    @property
    def answers(self) -> str:
        """Which head labels the pixels: ``'decode head'`` or ``'score map'``."""
        return ('score map' if isinstance(self.model.decode_head, ScoreMapHead)
                else 'decode head')

    @property
    def has_score_map(self) -> bool:
        """Whether the model has one, for other names and to be looked at."""
        neck = getattr(self.model, 'neck', None)
        return isinstance(neck, PixelTextNeck) and neck.output_score_map

    def set_class_names(self, class_names: str | Sequence[str]) -> None:
        """Segment into other classes from now on, by the score map.

        Args:
            class_names: as in :class:`PixelTextNeck`.

        Raises:
            ValueError: if the model has no score map, its prompt is class-specific, or the names
                are faulty; it is then as before.
        """
        answer_names(self.model, class_names)
        self.class_names = list(self.model.neck.class_names)
        self.palette = distinct_colours(len(self.class_names))
        self._tell_model()

    def _tell_model(self) -> None:
        """For mmseg's visualisers, and for export."""
        self.model.dataset_meta = dict(classes=tuple(self.class_names), palette=self.palette)

    def __call__(self, image: str | Path | np.ndarray) -> Prediction:
        """Segment a picture.

        Args:
            image: a file, or (H, W, 3) uint8, RGB.

        Raises:
            ValueError: if the file is no picture.
        """
        if not isinstance(image, np.ndarray):
            image = read_image(image)
        maps: list[Tensor] = []
        listener = None
        if self.has_score_map:
            listener = self.model.neck.register_forward_hook(
                lambda module, inputs, outputs: maps.append(outputs[-1]))
        data = self.pipeline(dict(img=np.ascontiguousarray(image[..., ::-1])))
        batch = {key: [value] for key, value in data.items()}
        try:
            with torch.no_grad():
                sample = self.model.test_step(batch)[0]
                if len(maps) > 1:  # of windows; the map is that of the whole picture
                    inputs = self.model.data_preprocessor(batch, False)['inputs']
                    self.model.extract_feat(inputs)
        finally:
            if listener is not None:
                listener.remove()
        return Prediction(
            image=image, labels=sample.pred_sem_seg.data[0].cpu().numpy(),
            score_map=maps[-1][0].float().cpu().numpy() if maps else None,
            class_names=list(self.class_names), palette=list(self.palette))


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, turned as its EXIF data say.

    Raises:
        ValueError: if the file is no picture, or not there.
    """
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:  # imdecode refuses an empty file
        raise ValueError(f'{path} cannot be read: {error}') from None
    if image is None:
        raise ValueError(f'{path} is no picture that OpenCV can read, or it is damaged')
    return image[..., ::-1]


def start_zero_shot(model: BaseSegmentor) -> None:
    """Load the pretrained weights of a model that needs no training.

    Raises:
        FileNotFoundError: if the weights are not to be had.
        ValueError: if its neck or head has something to learn, or weights or text embeddings are in
            a checkpoint.
    """
    learned = [name for name, parameter in model.named_parameters()
               if parameter.requires_grad and name.startswith(('neck.', 'decode_head.'))]
    if learned:
        raise ValueError(f'this model learns {len(learned)} tensors beside its backbone '
                         f'({learned[0]}, ...); give the checkpoint that holds them')
    prompt = getattr(getattr(model, 'neck', None), 'prompt', None)
    if getattr(model.backbone, 'pretrained', None) is None or (
            isinstance(prompt, TextEmbeddings) and prompt.path is None):
        raise ValueError('the config of this model names no pretrained weights; give the '
                         'checkpoint that holds them')
    model.init_weights()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without mmengine's line for every tensor that is initialised."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def _classes(model: BaseSegmentor, meta: dict) -> tuple[list[str], list | None]:
    """Names of the classes, and their palette where checkpoint or dataset knows it."""
    outer = model.cfg.get('test_dataloader', {}).get('dataset', {})
    _, dataset = next(dataset_leaves('', outer))
    kind = dataset.get('type')
    known = getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'METAINFO', {})
    colour_of = {}
    for source in (known, dataset.get('metainfo', {}), meta):
        colour_of.update(zip(source.get('classes') or (), source.get('palette') or (),
                             strict=False))
    neck = getattr(model, 'neck', None)
    if isinstance(neck, PixelTextNeck):
        names = list(neck.class_names)
    else:
        names = list(meta.get('classes') or dataset.get('metainfo', {}).get('classes')
                     or known.get('classes') or ())
        if len(names) != model.num_classes:
            names = [f'class {index}' for index in range(model.num_classes)]
    if not all(name in colour_of for name in names):
        return names, None
    return names, [tuple(map(int, colour_of[name])) for name in names]
