"""What runs beside the training loop: hooks, and how files are written."""

from denseclip_mm.engine.checkpoint_hook import ResumableCheckpointHook
from denseclip_mm.engine.hooks import (
    ChannelsLastHook,
    CheckClassesHook,
    CheckLossHook,
    PromptWordsHook,
)
from denseclip_mm.engine.prediction_hooks import LabelMapHook, PredictionVisualizationHook
from denseclip_mm.engine.score_map_hook import ScoreMapVisualizationHook
from denseclip_mm.engine.storage import WholeFileBackend, WholeVisBackend
from denseclip_mm.engine.summary_hook import RunSummaryHook

__all__ = ['ChannelsLastHook', 'CheckClassesHook', 'CheckLossHook', 'LabelMapHook',
           'PredictionVisualizationHook', 'PromptWordsHook', 'ResumableCheckpointHook',
           'RunSummaryHook', 'ScoreMapVisualizationHook', 'WholeFileBackend', 'WholeVisBackend']
