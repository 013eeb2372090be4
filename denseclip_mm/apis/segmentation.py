"""What a segmentor makes of a picture."""

from typing import Any

from denseclip_mm.apis.prediction import Prediction
from denseclip_mm.apis.score_map import segment
from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.ensemble_head import EnsembleHead
from denseclip_mm.models.score_map_head import ScoreMapHead

import numpy as np
from mmseg.models import BaseSegmentor
from torch import Tensor

_ANSWERS = {ScoreMapHead: 'score map', CostAggregationHead: 'aggregation head',
            EnsembleHead: 'decode head and score map'}


def answers(model: BaseSegmentor) -> str:
    """What labels the pixels, see :class:`Prediction <denseclip_mm.apis.Prediction>`."""
    return next((answer for head, answer in _ANSWERS.items()
                 if isinstance(model.decode_head, head)), 'decode head')


def predict(model: BaseSegmentor, image: np.ndarray, inputs_13HW: Tensor,
            sample: Any) -> Prediction:
    """Segment a picture.

    Args:
        model: a segmentor or a view of one, in evaluation mode, with ``dataset_meta``.
        image: the picture (H, W, 3), RGB.
        inputs_13HW: it, as the model's data preprocessor gives it.
        sample: its metainfo.
    """
    result, score_map = segment(model, inputs_13HW, sample)
    return Prediction(
        image=image, labels=result.pred_sem_seg.data[0].cpu().numpy(),
        score_map=None if score_map is None else score_map.cpu().numpy(),
        class_names=list(model.dataset_meta['classes']),
        palette=list(model.dataset_meta['palette']), answers=answers(model))
