"""What serves people: prediction, export, conversion, configs and checkpoints."""

from denseclip_mm.apis.inference import Prediction, Predictor

__all__ = ['Prediction', 'Predictor']
