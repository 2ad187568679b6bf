"""A predictor without a network, and recordings of every kind that a server may be sent."""

import io
import threading
import time

import numpy as np
import soundfile

from made_sound import tone
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import AudioError
from multimodal_ser.predict import Prediction

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
CARD = """---
license: mit
---
# Made-up model

Says what the **pitch** says. <script>alert(1)</script> ![](https://example.org/x.png)

| corpus | UA |
|---|---|
| none | 0.17 |
"""


class MadePredictor:
    """The higher the pitch, the later the class; remembers the sizes of its batches."""

    name, labels, threshold, card, channel = "made", LABELS, 0.4, CARD, None

    def __init__(self, seconds=0.0):
        self.batches, self.seconds = [], seconds

    def waves(self, waves, texts=None, *, speech=False):
        self.batches.append(len(waves))
        time.sleep(self.seconds)
        if any(len(wave) < 400 for wave in waves):
            raise AudioError("item 0 is too short; allowed: 25 ms or more")
        texts = texts or [None] * len(waves)
        return [self._one(wave, text) for wave, text in zip(waves, texts, strict=True)]

    def _one(self, wave, text):
        spectrum = np.abs(np.fft.rfft(wave[: 2 * SAMPLE_RATE]))
        hertz = spectrum.argmax() * SAMPLE_RATE / len(wave[: 2 * SAMPLE_RATE])
        scores = np.exp(-0.5 * ((np.arange(6) - hertz / 200) / 0.7) ** 2) + 0.01
        shares = (scores / scores.sum()).astype(np.float32)
        end = len(wave) / SAMPLE_RATE
        return Prediction(LABELS, shares, np.zeros(2, "f4"), 0.0, end, self.threshold, text)


class HeldPredictor(MadePredictor):
    """Predicts once `go` is set, so that a test can look at what happens before."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def waves(self, waves, texts=None, *, speech=False):
        self.begun.set()
        assert self.go.wait(300)
        return super().waves(waves, texts, speech=speech)


def melody(*hertz, seconds=3.0):
    """Tones one after the other, each with a breath behind it, over faint noise."""
    noise = np.random.default_rng(0).normal(0, 1e-3, round(0.7 * SAMPLE_RATE)).astype("f4")
    parts = [part for one in hertz for part in (tone(seconds, hertz=one), noise)]
    return np.concatenate([noise, *parts])


def encoded(samples, kind="WAV", subtype=None, rate=SAMPLE_RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()
