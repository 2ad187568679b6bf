"""A recording of any length, or live sound → the emotions in it over time."""

from multimodal_ser.config.settings import Vad
from multimodal_ser.timeline.analysis import analyze
from multimodal_ser.timeline.stream import HOP, SMOOTHING, WINDOW, Stream
from multimodal_ser.timeline.track import Point, Segment, Speaker, Timeline, Word
from multimodal_ser.timeline.words import Recogniser

__all__ = [
    "HOP",
    "SMOOTHING",
    "WINDOW",
    "Point",
    "Recogniser",
    "Segment",
    "Speaker",
    "Stream",
    "Timeline",
    "Vad",
    "Word",
    "analyze",
]
