"""Features of a picture, computed once."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class FeatureCache(nn.Module):
    """A backbone that looks at a picture once: later inferences get the features of the first.

    Args:
        backbone: the backbone, or what else gives the features of images.
    """

    def __init__(self, backbone: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.features: list[Any] = []
        self.window = 0

    def rewind(self) -> None:
        """Start from the first window again."""
        self.window = 0

    def forward(self, x: Tensor) -> Any:
        """Features of the next window."""
        if self.window == len(self.features):
            self.features.append(self.backbone(x))
        self.window += 1
        return self.features[self.window - 1]
