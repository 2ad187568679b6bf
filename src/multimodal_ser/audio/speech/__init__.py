"""16 kHz sound → the speech in it → the canonical waveform that models read."""

from multimodal_ser.audio.speech.canonical import Speech, canonical, find_speech, lengthened
from multimodal_ser.audio.speech.finder import CONTEXT, FRAME, SpeechFinder, Stretch
from multimodal_ser.audio.speech.gates import make_gate

__all__ = [
    "CONTEXT",
    "FRAME",
    "Speech",
    "SpeechFinder",
    "Stretch",
    "canonical",
    "find_speech",
    "lengthened",
    "make_gate",
]
