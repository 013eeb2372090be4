"""What a model makes of a picture."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

from denseclip_mm.apis.pictures import enlarged, paint, write_names

import cv2
import numpy as np

OTHER, GREY = 'other', (128, 128, 128)  # what has no name of the K, and its colour


def with_other(class_names: list[str], palette: list[tuple[int, int, int]]) -> tuple[list, list]:
    """Names and colours with ``'other'`` among them."""
    if OTHER in class_names:
        return class_names, palette
    return [*class_names, OTHER], [*palette, GREY]


def _check_opacity(opacity: float) -> None:
    if not 0 <= opacity <= 1:  # which nan is not either
        raise ValueError(f'opacity has to be 0 to 1, got {opacity}')


class _MadeWhenRead:
    """A field that may be given as a function, which is called when the field is first read."""

    def __get__(self, owner: 'Prediction | None', kind: type) -> np.ndarray | None:
        if owner is None:
            raise AttributeError('the field has no default')
        if callable(owner._score_map):
            owner._score_map = owner._score_map()
        return owner._score_map

    def __set__(self, owner: 'Prediction', value: np.ndarray | Callable | None) -> None:
        owner._score_map = value


@dataclass
class Prediction:
    """A segmented picture.

    Attributes:
        image: (H, W, 3) uint8, RGB; what has more than 8 bits is scaled, for showing alone.
        labels: (H, W), indices of ``class_names``.
        scores: (H, W), how well its label fits each pixel: the cosine where the score map answers,
            else the probability among the K classes.
        score_map: (K, H, W) cosine of every pixel with every class, as the model's own inference
            gives it: interpolated bilinearly from the cells, windows of slide inference averaged.
            None for a model without language. Its ``argmax(0)`` are the labels where the score map
            answers. It is made when it is first read, or given as what makes it of a list of
            classes; :meth:`score_maps` makes some.
        class_names: the K classes; then ``'other'`` after :meth:`or_other`.
        palette: RGB of each of them.
        labelled_by: what labelled the pixels: ``'decode head'``, ``'aggregation head'``,
            ``'score map'``, or ``'decode head and score map'`` (an ensemble).

    Examples:
        >>> image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[1, 1], [1, 0]])
        >>> palette = [(0, 0, 200), (200, 0, 0)]
        >>> scores = np.array([[0.9, 0.9], [0.4, 0.6]])
        >>> prediction = Prediction(
        ...     image, labels, scores, None, ['sky', 'road'], palette, 'decode head')
        >>> prediction.shares()
        {1: 0.75, 0: 0.25}
        >>> prediction.or_other(0.5).shares()
        {1: 0.5, 0: 0.25, 2: 0.25}
        >>> prediction.overlay(opacity=1)[0, 0]
        array([200,   0,   0], dtype=uint8)
    """

    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    score_map: np.ndarray | Callable[..., np.ndarray] | None = _MadeWhenRead()
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    labelled_by: str

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: the score map, and not the model that makes it."""
        return dict(vars(self), _score_map=self.score_map)

    @property
    def num_score_maps(self) -> int:
        """The K classes, ``'other'`` not among them, of a model with language."""
        return len(self._score_map)

    def score_maps(self, classes: Sequence[int]) -> np.ndarray:
        """Of these classes (k, H, W), without those of the others, which may be gigabytes."""
        made = self._score_map
        return made(classes) if callable(made) else made[classes]

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The picture with its classes painted over it, and their borders: (H, W, 3) uint8, RGB.

        A border is white on one side and black on the other, so that it stands out where a class
        has the colours of the picture. Opacity 1 is the colours alone, 0 the picture.

        Raises:
            ValueError: if the opacity is not 0 to 1.
        """
        _check_opacity(opacity)
        painted = cv2.addWeighted(paint(self.labels, self.palette), opacity,
                                  self.image, 1 - opacity, 0)
        if 0 < opacity < 1:
            labels = self.labels.astype(np.float32)  # which OpenCV takes of any size
            kernel = np.ones([2 * max(1, round(max(labels.shape) / 1024)) + 1] * 2, np.uint8)
            painted[cv2.dilate(labels, kernel) != labels] = 255
            painted[cv2.erode(labels, kernel) != labels] = 0
        return painted

    def or_other(self, threshold: float) -> 'Prediction':
        """Pixels with a score below this become ``'other'``, a class of its own after the K.

        A class that has this name already takes them.
        """
        names, palette = with_other(self.class_names, self.palette)
        known = np.zeros(self.labels.shape, int) if len(self.class_names) == 1 else self.labels
        labels = np.where(self.scores < threshold, names.index(OTHER), known)
        return replace(self, labels=labels, class_names=names, palette=palette,
                       score_map=self._score_map)

    def shares(self) -> dict[int, float]:
        """Share of the picture of every class that occurs, largest first."""
        classes, pixels = np.unique(self.labels, return_counts=True)
        order = np.argsort(-pixels, kind='stable')
        return {int(classes[i]): float(pixels[i]) / self.labels.size for i in order}


@dataclass
class Detection:
    """The things that were found in a picture, the most certain first.

    Attributes:
        image: (H, W, 3) uint8, RGB; what has more than 8 bits is scaled, for showing alone.
        boxes: (N, 4), left, top, right, bottom in pixels of the picture.
        scores: (N,), the detector's, in [0, 1].
        labels: (N,), indices of ``class_names``.
        masks: (N, H, W), bool; None for a detector of boxes alone.
        cells: (K, h, w), the score map, cosines, of a grid of cells that covers the picture. None
            for a model without one.
        class_names: the K classes.
        palette: RGB of each class.
        labelled_by: what named the things: ``'detector'``, which knows the classes of its training,
            or ``'score map in the boxes of the detector'``.

    Examples:
        >>> boxes, scores = np.array([[1, 0, 3, 2], [0, 0, 1, 1]]), np.array([0.75, 0.25])
        >>> found = Detection(
        ...     np.zeros((3, 4, 3), np.uint8), boxes, scores, np.array([1, 0]), None, None,
        ...     ['sky', 'bird'], [(0, 0, 200), (200, 0, 0)], 'detector')
        >>> found.counts(), found.above(0.5).counts()
        ({1: 1, 0: 1}, {1: 1})
        >>> found.above(0.5).results('picture')
        [{'image_id': 'picture', 'category_id': 1, 'bbox': [1.0, 0.0, 2.0, 2.0], 'score': 0.75}]
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    cells: np.ndarray | None
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    labelled_by: str

    @property
    def score_map(self) -> np.ndarray | None:
        """(K, H, W) cosine of every pixel with every class, interpolated between the cells."""
        if self.cells is None:
            return None
        size = self.image.shape[1::-1]
        return np.stack([cv2.resize(each, size, interpolation=cv2.INTER_LINEAR)
                         for each in self.cells])

    def above(self, threshold: float) -> 'Detection':
        """The things with a score of at least this."""
        kept = self.scores >= threshold
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept],
                       labels=self.labels[kept],
                       masks=None if self.masks is None else self.masks[kept])

    def counts(self) -> dict[int, int]:
        """How many things there are of every class that occurs, most first."""
        return dict(Counter(self.labels.tolist()).most_common())

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The picture with masks, boxes, names and scores in the classes' colours.

        Args:
            opacity: of the masks, 0 to 1.

        Returns:
            (h, w, 3) uint8, RGB; a small picture is enlarged, see :func:`enlarged
            <denseclip_mm.apis.pictures.enlarged>`.

        Raises:
            ValueError: if the opacity is not 0 to 1.
        """
        _check_opacity(opacity)
        colours = [self.palette[label] for label in self.labels]
        painted = self.image.copy()
        for index in reversed(range(len(colours) if self.masks is not None else 0)):
            inside = self.masks[index]
            painted[inside] = np.round(
                (1 - opacity) * self.image[inside] + opacity * np.array(colours[index]))
        drawn, scale = enlarged(painted)
        width = max(2, round(max(drawn.shape) / 300))
        corners = np.round(self.boxes * scale).astype(int)
        for (left, top, right, bottom), colour in reversed([*zip(corners, colours, strict=True)]):
            cv2.rectangle(drawn, (left, top), (right, bottom), colour, width)
        titles = [f'{shorten(self.class_names[label], 40)} {score:.2f}'
                  for label, score in zip(self.labels, self.scores, strict=True)]
        return write_names(drawn, titles, corners[:, :2], colours, above=True)

    def results(self, image_id: int | str) -> list[dict[str, Any]]:
        """The things in the form of COCO's results.

        Args:
            image_id: of the picture.

        Returns:
            Of each thing ``image_id``, ``category_id`` (an index of ``class_names``), ``bbox``
            (left, top, width, height), ``score``, and with masks ``segmentation``, run lengths as
            pycocotools reads them.
        """
        sizes = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1)
        entries = [
            dict(image_id=image_id, category_id=int(label),
                 bbox=[round(float(number), 3) for number in box], score=round(float(score), 5))
            for label, box, score in zip(self.labels, sizes, self.scores, strict=True)]
        if self.masks is not None:
            from pycocotools.mask import encode
            for entry, mask in zip(entries, self.masks, strict=True):
                runs = encode(np.asfortranarray(mask, np.uint8))
                entry['segmentation'] = dict(runs, counts=runs['counts'].decode())
        return entries
