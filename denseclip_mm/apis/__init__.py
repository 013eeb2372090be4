"""What serves people: prediction, other names, regions, checkpoints, checks, pictures."""

from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.apis.open_vocabulary import answer_names, mix_heads
from denseclip_mm.apis.prediction import Detection, Prediction
from denseclip_mm.apis.regions import assign_regions

__all__ = ['Detection', 'Prediction', 'Predictor', 'answer_names', 'assign_regions',
           'load_checkpoint', 'mix_heads']
