"""recordings (and words) → Predictions: the starter model, runs, emotion2vec+, ONNX, the hub."""

from multimodal_ser.predict.loading import load
from multimodal_ser.predict.prediction import UNCERTAIN, Prediction
from multimodal_ser.predict.predictor import Predictor, Recording

__all__ = ["UNCERTAIN", "Prediction", "Predictor", "Recording", "load"]
