"""A detector of mmdet with a loss on its score map."""

from typing import Any

from denseclip_mm.models.neck import PixelTextNeck

from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import Tensor, nn

NO_MMDET = ("detectors need mmdet, which is not installed: pip install 'denseclip_mm[mmdet]' (with "
            "onedl's stack [onedl-mmdet])")


class WithScoreMap:
    """Stands before a detector's class: takes the score map off the features, adds its loss.

    Attributes:
        score_map_loss: a :class:`BoxScoreMapLoss <denseclip_mm.models.BoxScoreMapLoss>`.
        score_map: (B, K, h, w) cosines of the images of the last prediction.
    """

    score_map_loss: nn.Module
    score_map: Tensor | None = None

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """What the heads take: the neck's outputs without the score map."""
        *maps, self.score_map = super().extract_feat(batch_inputs)
        return tuple(maps)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """The detector's own losses, and ``loss_score_map``."""
        losses = super().loss(batch_inputs, batch_data_samples)
        score_map, self.score_map = self.score_map, None  # whose graph is not for a deepcopy
        things = [sample.gt_instances for sample in batch_data_samples]
        losses['loss_score_map'] = self.score_map_loss(
            score_map, things, tuple(batch_inputs.shape[2:]))
        return losses


def ScoreMapDetector(*, detector: str, score_map_loss: dict[str, Any],  # noqa: N802
                     **parts: Any) -> nn.Module:
    """Build a detector of mmdet that is guided by language (DenseCLIP, section 4.2).

    A type of configs: ``type='ScoreMapDetector', detector='RetinaNet', score_map_loss=dict(
    type='BoxScoreMapLoss')``, and for the rest the entries of that detector. The model is one of
    the detector's class, with its attributes and checkpoint keys, and :class:`WithScoreMap`.

    Args:
        detector: type of the detector: any of mmdet's that has a ``neck``.
        score_map_loss: config of the loss.
        parts: what the detector takes, which refuses what it does not know. ``neck`` is a
            :class:`PixelTextNeck <denseclip_mm.models.PixelTextNeck>`.

    Raises:
        ValueError: if mmdet is not installed, it has no such detector, or the neck makes no score
            map.
    """
    try:
        from mmdet.registry import MODELS as DETECTORS
    except ImportError as error:
        raise ValueError(NO_MMDET) from error
    stock = DETECTORS.get(detector)
    if stock is None:
        raise ValueError(f'mmdet has no detector {detector!r}')
    model = type(stock.__name__, (WithScoreMap, stock), {})(**ConfigDict(parts))
    neck = getattr(model, 'neck', None)
    if not isinstance(neck, PixelTextNeck) or not neck.output_score_map:
        raise ValueError(
            f'the neck of a ScoreMapDetector is {type(neck).__name__}, or has output_score_map='
            f'False; use PixelTextNeck around it, or type={detector!r} without a score_map_loss')
    model.score_map_loss = MODELS.build(score_map_loss)
    return model
