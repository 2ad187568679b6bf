"""16 kHz sound → where speech is in it → the waveform that models hear."""

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
