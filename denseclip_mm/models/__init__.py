"""What is trained: start with ``neck``, which is DenseCLIP."""

from denseclip_mm.models.context_decoder import ContextDecoder
from denseclip_mm.models.image_prompts import ConditionalContext, VisualContext
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.piecewise_loss import PiecewiseFPNHead
from denseclip_mm.models.sampler import ClassWeightSampler
from denseclip_mm.models.score_map_head import ScoreMapHead

__all__ = [
    'ClassWeightSampler', 'ConditionalContext', 'ContextDecoder', 'PiecewiseFPNHead',
    'PixelTextNeck', 'ScoreMapHead', 'VisualContext'
]
