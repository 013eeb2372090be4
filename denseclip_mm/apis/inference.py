"""Pictures in; labels, boxes and score maps out, with names chosen at run time.

mmseg's ``init_model``, ``inference_model`` and ``MMSegInferencer``, and mmdet's ``DetInferencer``,
take these models as they are; :class:`Predictor` adds what they have no place for: other names,
score maps, zero-shot models.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from denseclip_mm.apis import detection, segmentation
from denseclip_mm.apis.checkpoints.load import load_checkpoint, start_zero_shot
from denseclip_mm.apis.checks.config import build_model, classes_of, load_config
from denseclip_mm.apis.feature_cache import FeatureCache
from denseclip_mm.apis.open_vocabulary import answer_names, has_score_map, mix_heads
from denseclip_mm.apis.pictures import distinct_colours, load_image, shown
from denseclip_mm.apis.prediction import Detection, Prediction
from denseclip_mm.models.views import view_of
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadImageFromNDArray
from mmseg.models import BaseSegmentor
from mmseg.registry import TRANSFORMS
from torch import Tensor, nn

SMALLEST = 32  # pixels of the usual coarsest cell


class Predictor:
    """A model with its weights, for pictures of any size.

    Attributes:
        model: the segmentor or detector that answers; its own names or others, see
            :meth:`set_class_names`.

    Args:
        config: config file, or an mmengine ``Config``; its ``test_pipeline`` starts with a loading
            step, which files go through.
        checkpoint: checkpoint file; None for a zero-shot model.
        device: where it runs; None takes a GPU if there is one.
        class_names: other names for the model, see :meth:`set_class_names`.
        ensemble: weights of the score map, which a decode head with fixed classes is mixed with,
            for its own names and for others; see :func:`mix_heads
            <denseclip_mm.apis.open_vocabulary.mix_heads>`. None: no mixture.
        other: pixels with a score below it become ``'other'``, so that one name alone may be
            asked. A cosine where the score map answers (always of one name alone), else a
            probability; see :attr:`Prediction.scores`. None: every pixel takes a name.

    Raises:
        FileNotFoundError: if config or checkpoint are not there.
        ValueError: if the checkpoint is not one of this model, the model would need one, the names
            are faulty, ``other`` is above 1 or for a detector, or there is no ``test_pipeline`` or
            device.

    Examples:
        >>> from denseclip_mm import Predictor
        >>> from denseclip_mm.demo.scenes import draw
        >>> predictor = Predictor('configs/demo/zero_shot_scenes.py', device='cpu')
        >>> predictor.set_image(draw(1, 7, 128)[0][..., ::-1])
        >>> for names in (['snow', 'sand', 'grass'], ['water', 'brick wall']):
        ...     prediction = predictor.predict(names)
        ...     print(prediction.labels.shape, prediction.score_map.shape)
        (128, 128) (3, 128, 128)
        (128, 128) (2, 128, 128)
        >>> predictor.predict(['snow'], other=0.8).class_names
        ['snow', 'other']
    """

    def __init__(self, config: str | Path | Config, checkpoint: str | Path | None = None, *,
                 device: str | None = None,
                 class_names: str | Sequence[str] | None = None,
                 ensemble: tuple[float, float] | None = None,
                 other: float | None = None) -> None:
        cfg = load_config(config, options=None, launcher='none', work_dir=None)
        if not cfg.get('test_pipeline'):
            raise ValueError(f'{cfg.filename or "the config"} has no test_pipeline, which '
                             'pictures go through')
        device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        if device.startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f'the device is {device}, but there is no GPU; leave it out')
        model = build_model(cfg, device)
        self._kind = segmentation if isinstance(model, BaseSegmentor) else detection
        self.loading = TRANSFORMS.build(cfg.test_pipeline[0])
        self.pipeline = Compose(
            [step for step in cfg.test_pipeline[1:] if step.type != 'LoadAnnotations'])
        meta = {}
        if checkpoint is None:
            start_zero_shot(model)
        else:
            meta = load_checkpoint(model, checkpoint).get('dataset_meta') or {}
        names, palette = classes_of(model, meta)
        model.dataset_meta = dict(classes=tuple(names),
                                  palette=palette or distinct_colours(len(names)))
        self.model = model
        self.other = self._checked(other)
        self._view_of_names = lru_cache(maxsize=8)(
            partial(answer_names, model, alone=not self.detects) if ensemble is None else
            (lambda names: mix_heads(model, ensemble, class_names=names)))
        if ensemble is not None:
            self.model = mix_heads(model, ensemble)
        self._picture: tuple | None = None
        if class_names is not None:
            self.set_class_names(class_names)

    @property
    def class_names(self) -> list[str]:
        """The K classes."""
        return list(self.model.dataset_meta['classes'])

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """RGB of each class."""
        return list(self.model.dataset_meta['palette'])

    @property
    def labelled_by(self) -> str:
        """What labels pixels or things, see :class:`Prediction`, :class:`Detection`."""
        return self._kind.labelled_by(self.model)

    @property
    def detects(self) -> bool:
        """Whether it finds things: a :class:`Detection` comes of a picture."""
        return self._kind is detection

    @property
    def has_score_map(self) -> bool:
        """Whether the model has one, for other names and to be looked at."""
        return has_score_map(self.model)

    def set_class_names(self, class_names: str | Sequence[str]) -> None:
        """Answer to other names from now on.

        By the aggregation head or the score map; a detector by the score map in its boxes. See
        :func:`answer_names <denseclip_mm.apis.open_vocabulary.answer_names>`.

        Args:
            class_names: as in :class:`PixelTextNeck`.

        Raises:
            ValueError: if the model has no score map, its prompt is class-specific, or the names
                are faulty or a single one without ``other``; it is then as before.
        """
        self.model = self._named(class_names, self.other)

    def __call__(self, image: str | Path | np.ndarray) -> Prediction | Detection:
        """Segment a picture, or find its things.

        Args:
            image: a file, or (H, W, 3) uint8, RGB.

        Raises:
            ValueError: if the config's loading step cannot read the file, or gives it other
                channels than the model takes, or the picture is too small or too narrow.
        """
        image, inputs, sample = self._prepare(image)
        return self._predict(self.model, image, inputs, sample, self.other)

    def set_image(self, image: str | Path | np.ndarray) -> None:
        """Take a picture for :meth:`predict`; the image tower looks at it once.

        Args:
            image: a file, or (H, W, 3) uint8, RGB.

        Raises:
            ValueError: if the config's loading step cannot read the file, or gives it other
                channels than the model takes, or the picture is too small or too narrow.
        """
        self._picture = (*self._prepare(image), FeatureCache(self.model.backbone))

    def predict(self, class_names: str | Sequence[str] | None = None, *,
                other: float | None = None) -> Prediction | Detection:
        """As of a call, the picture of :meth:`set_image`, as often as one likes.

        The first call computes the features of the picture, later ones reuse them.

        Args:
            class_names: other names for this call, as in :meth:`set_class_names`; None for those
                of the predictor.
            other: for this call; None for that of the predictor.

        Raises:
            ValueError: if there is no picture yet; see also :meth:`set_class_names`.
        """
        if self._picture is None:
            raise ValueError('there is no picture to segment; call set_image first')
        *picture, features = self._picture
        features.rewind()
        other = self.other if other is None else self._checked(other)
        model = self.model if class_names is None else self._named(class_names, other)
        return self._predict(view_of(model, backbone=features), *picture, other)

    def _checked(self, other: float | None) -> float | None:
        if other is not None and self.detects:
            raise ValueError('other is for pixels; the things of a detector have scores of their '
                             'own')
        if other is not None and not -1 <= other <= 1:
            raise ValueError(f'other is a cosine or a probability, at most 1, got {other}')
        return other

    def _named(self, class_names: str | Sequence[str], other: float | None) -> nn.Module:
        names = tuple(read_class_names(class_names))
        if len(names) == 1 and other is None and not self.detects:
            raise ValueError(f'{names[0]!r} alone leaves nothing to choose between; name what else '
                             'is in the pictures, too, or the score below which a pixel is other: '
                             'Predictor(other=0.2), predict.py --other 0.2')
        return self._view_of_names(names)

    def _prepare(self, image: str | Path | np.ndarray) -> tuple:
        """The picture (H, W, 3), RGB, and what the model takes of it: inputs and sample."""
        if isinstance(image, np.ndarray):
            data = LoadImageFromNDArray()(dict(img=np.ascontiguousarray(image[..., ::-1])))
        else:
            data = load_image(image, self.loading)
            self._check_channels(data['img'], image)
        picture = shown(data['img'])
        try:
            data = self.pipeline(data)
        except cv2.error:
            raise ValueError(f'a picture of {picture.shape[1]} x {picture.shape[0]} pixels is too '
                             'narrow for the steps of test_pipeline') from None
        batch = self.model.data_preprocessor({key: [value] for key, value in data.items()}, False)
        return picture, batch['inputs'], batch['data_samples'][0]

    def _check_channels(self, image: np.ndarray, path: str | Path) -> None:
        mean = getattr(self.model.data_preprocessor, 'mean', None)
        channels = 1 if image.ndim == 2 else image.shape[2]
        if mean is not None and len(mean) != channels:
            raise ValueError(f'{path} is loaded with {channels} channels, and the model takes '
                             f"{len(mean)}; color_type='color' of LoadImageFromFile gives three")

    def _predict(self, model: nn.Module, image: np.ndarray, inputs: Tensor, sample: Any,
                other: float | None) -> Prediction | Detection:
        try:
            prediction = self._kind.predict(model, image, inputs, sample)
            return prediction if other is None else prediction.or_other(other)
        except RuntimeError:
            if min(inputs.shape[2:]) >= SMALLEST:
                raise
            raise ValueError(f'a picture of {image.shape[1]} x {image.shape[0]} pixels is too '
                             'small for the model') from None
