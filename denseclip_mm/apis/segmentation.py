"""What a segmentor makes of a picture."""

from typing import Any

from denseclip_mm.apis.prediction import Prediction
from denseclip_mm.apis.score_map import segment
from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.ensemble_head import EnsembleHead
from denseclip_mm.models.score_map_head import ScoreMapHead

import numpy as np
import torch
from mmseg.models import BaseSegmentor
from torch import Tensor

_ROWS = 256  # of the picture, whose exponentials are held at a time
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
    result, maps = segment(model, inputs_13HW, sample)
    scores_HW = (maps.best() if isinstance(model.decode_head, ScoreMapHead)
                 else _probability(result))
    return Prediction(
        image=image, labels=result.pred_sem_seg.data[0].cpu().numpy(),
        scores=scores_HW.cpu().numpy(),
        score_map=maps,
        class_names=list(model.dataset_meta['classes']),
        palette=list(model.dataset_meta['palette']), answers=answers(model))


def _probability(result: Any) -> Tensor:
    """Of the labels (H, W)."""
    logits_KHW = result.seg_logits.data.float()
    if len(logits_KHW) > 1:
        return torch.cat([(rows_KhW.amax(0) - rows_KhW.logsumexp(0)).exp()
                          for rows_KhW in logits_KHW.split(_ROWS, dim=1)])
    return (1 - logits_KHW).where(result.pred_sem_seg.data == 0, logits_KHW)[0]  # of a sigmoid
