"""16 kHz sound → where speech is in it → the waveform that models hear."""

from multimodal_ser.audio.speech.canonical import Speech, canonical, find_speech, lengthened
from multimodal_ser.audio.speech.finder import CONTEXT, FRAME, Samples, SpeechFinder, Stretch
from multimodal_ser.audio.speech.gates import Vad, make_gate

__all__ = [
    "CONTEXT",
    "FRAME",
    "Samples",
    "Speech",
    "SpeechFinder",
    "Stretch",
    "Vad",
    "canonical",
    "find_speech",
    "lengthened",
    "make_gate",
]
