"""recordings (and words) → Predictions: the starter model, runs, emotion2vec+, ONNX, the hub."""

from multimodal_ser.predict.channel import Channel
from multimodal_ser.predict.inputs import Recording
from multimodal_ser.predict.loading import load
from multimodal_ser.predict.pipelines import Pipeline, pipeline
from multimodal_ser.predict.prediction import NO_SPEECH, UNCERTAIN, Prediction, Predictions
from multimodal_ser.predict.predictor import Predictor

__all__ = [
    "NO_SPEECH",
    "UNCERTAIN",
    "Channel",
    "Pipeline",
    "Prediction",
    "Predictions",
    "Predictor",
    "Recording",
    "load",
    "pipeline",
]
