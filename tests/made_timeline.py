"""Sound with speech-like stretches at known places, and a predictor that hears its pitch."""

from types import SimpleNamespace

import numpy as np

from multimodal_ser.predict import Prediction
from multimodal_ser.predict.prediction import AlsoPredicted, with_attributes

RATE = 16_000
LABELS = ("anger", "neutral", "sadness")
HERTZ = {"anger": 900.0, "neutral": 400.0, "sadness": 150.0}
FELT = {"anger": (0.9, 0.1), "sadness": (0.2, 0.3), "neutral": (0.4, 0.8)}  # arousal, valence


def syllables(seconds, emotion="neutral", level=0.2):
    """A tone in syllables, four a second, with dips of 30 dB between them as speech has."""
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = 0.03 + 0.97 * np.abs(np.sin(4 * np.pi * time)) ** 2
    return (level * envelope * np.sin(2 * np.pi * HERTZ[emotion] * time)).astype("f4")


def silence(seconds, level=0.0005, seed=0):
    draw = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * draw).astype("f4")


def recording(*parts, level=0.0005):
    """Parts are seconds of silence, or (seconds, emotion) of speech, over a floor of noise."""
    sound = [
        syllables(*part) if isinstance(part, tuple) else np.zeros(round(part * RATE), "f4")
        for part in parts
    ]
    whole = np.concatenate(sound)
    return whole + silence(len(whole) / RATE, level)


class Pitch:
    """Each class's probability is its share of the spectrum around its pitch."""

    name, labels, threshold, channel = "pitch", LABELS, 0.6, None

    adaptable = False

    def __init__(self):
        self.batches = []

    def waves(self, waves, texts=None, *, speech=False):
        self.batches.append(len(waves))
        return [SimpleNamespace(probabilities=self.heard(wave), distance=None) for wave in waves]

    def heard(self, wave):
        assert wave.dtype == np.float32
        assert wave.ndim == 1
        power = np.abs(np.fft.rfft(wave)) ** 2
        hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
        near = [power[np.abs(hertz - HERTZ[name]) < 40].sum() for name in LABELS]
        return np.asarray(near / np.sum(near), np.float32)


class Reader(Pitch):
    """Reads words, too: where it is given any, they decide; `given` has those of every window."""

    name, modalities = "reader", ("text", "audio")

    def __init__(self):
        super().__init__()
        self.given = []

    def waves(self, waves, texts=None, /, *, speech=False):
        texts = texts or [None] * len(waves)
        self.given += texts
        pairs = zip(super().waves(waves, speech=speech), texts, strict=True)
        said = SimpleNamespace(probabilities=np.array([0, 0, 1], "f4"), distance=None)
        return [said if text else heard for heard, text in pairs]


class Felt(Pitch):
    """Arousal and valence by pitch, on a scale from 1 to 5."""

    name, labels, scale, threshold, card = "felt", ("arousal", "valence"), (1.0, 5.0), 0.0, "# felt"

    def heard(self, wave):
        shares = super().heard(wave)
        return np.asarray(shares @ np.array([FELT[name] for name in HERTZ]), np.float32)

    def waves(self, waves, texts=None, *, speech=False):
        more = np.zeros(2, "f4"), 0.0, 1.0, 0.0
        return [Prediction(self.labels, self.heard(w), *more, scale=self.scale) for w in waves]


class Both(Pitch):
    """Classes by pitch, and arousal and valence beside them."""

    name, card, scale, also = "both", "# both", None, AlsoPredicted(Felt.labels, Felt.scale)

    def waves(self, waves, texts=None, *, speech=False):
        felt = Felt()
        found = []
        for wave in waves:
            more = np.zeros(2, "f4"), 0.0, 1.0, self.threshold
            one = Prediction(self.labels, self.heard(wave), *more)
            found.append(with_attributes(one, felt.heard(wave), self.also))
        return found
