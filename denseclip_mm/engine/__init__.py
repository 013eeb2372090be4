"""What runs beside the training loop: hooks."""

from denseclip_mm.engine.hooks import ChannelsLastHook, CheckClassesHook
from denseclip_mm.engine.score_map_hook import ScoreMapVisualizationHook

__all__ = ['ChannelsLastHook', 'CheckClassesHook', 'ScoreMapVisualizationHook']
