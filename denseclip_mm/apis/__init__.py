"""What serves people: prediction, export, conversion, configs and checkpoints."""

from denseclip_mm.apis.inference import Predictor
from denseclip_mm.apis.prediction import Detection, Prediction

__all__ = ['Detection', 'Prediction', 'Predictor']
