"""What a model makes of a picture."""

from dataclasses import dataclass

from denseclip_mm.apis.pictures import paint

import cv2
import numpy as np


@dataclass
class Prediction:
    """A segmented picture.

    Attributes:
        image: (H, W, 3) uint8, RGB; what has more than 8 bits is scaled, for showing alone.
        labels: (H, W), indices of ``class_names``.
        score_map: (K, H, W) cosine of every pixel with every class, as the model's own inference
            gives it: interpolated bilinearly from the cells, windows of slide inference averaged.
            None for a model without language. Its ``argmax(0)`` are the labels where the score map
            answers.
        class_names: the K classes.
        palette: RGB of each class.
        answers: what labelled the pixels: ``'decode head'``, ``'aggregation head'``,
            ``'score map'``, or ``'decode head and score map'`` (an ensemble).

    Examples:
        >>> image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[1, 1], [1, 0]])
        >>> palette = [(0, 0, 200), (200, 0, 0)]
        >>> prediction = Prediction(image, labels, None, ['sky', 'road'], palette, 'decode head')
        >>> prediction.shares()
        {1: 0.75, 0: 0.25}
        >>> prediction.overlay(opacity=0.5)[0, 0]
        array([100,   0,   0], dtype=uint8)
    """

    image: np.ndarray
    labels: np.ndarray
    score_map: np.ndarray | None
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    answers: str

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """The picture with its classes painted over it: (H, W, 3) uint8, RGB."""
        return cv2.addWeighted(paint(self.labels, self.palette), opacity,
                               self.image, 1 - opacity, 0)

    def shares(self) -> dict[int, float]:
        """Share of the picture of every class that occurs, largest first."""
        classes, pixels = np.unique(self.labels, return_counts=True)
        order = np.argsort(-pixels, kind='stable')
        return {int(classes[i]): float(pixels[i]) / self.labels.size for i in order}
