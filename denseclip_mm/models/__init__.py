"""What is trained: start with ``neck``, which is DenseCLIP.

Examples:
    >>> import torch
    >>> from mmseg.registry import MODELS
    >>> neck = MODELS.build(dict(
    ...     type='PixelTextNeck', class_names=['red star', 'grass;lawn'], score_map_index=0,
    ...     text_encoder=dict(type='CLIPTextTower', model='DemoCLIP'),
    ...     prompt=dict(type='LearnedContext', num_context=8),
    ...     context_decoder=dict(type='ContextDecoder', width=32),
    ...     neck=dict(type='FPN', in_channels=[32], out_channels=16, num_outs=1)))
    >>> image, dense = torch.rand(1, 64), torch.rand(1, 64, 16, 16)
    >>> inputs = torch.rand(1, 32, 16, 16), (image, dense)
    >>> [tuple(each.shape) for each in neck(inputs)]  # of the FPN, and the score map
    [(1, 16, 16, 16), (1, 2, 16, 16)]
    >>> neck.set_class_names(['snow', 'sand', 'water'])
    >>> [tuple(each.shape) for each in neck(inputs)]
    [(1, 16, 16, 16), (1, 3, 16, 16)]
"""

from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.box_score_map_loss import BoxScoreMapLoss
from denseclip_mm.models.context_decoder import ContextDecoder
from denseclip_mm.models.image_prompts import ConditionalContext, VisualContext
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.piecewise_loss import PiecewiseFPNHead
from denseclip_mm.models.sampler import ClassWeightSampler
from denseclip_mm.models.score_map_detector import ScoreMapDetector
from denseclip_mm.models.score_map_head import ScoreMapHead

__all__ = [
    'BoxScoreMapLoss', 'ClassWeightSampler', 'ConditionalContext', 'ContextDecoder',
    'CostAggregationHead', 'PiecewiseFPNHead', 'PixelTextNeck', 'ScoreMapDetector', 'ScoreMapHead',
    'VisualContext'
]
