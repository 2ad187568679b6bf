"""A random sample of the speech of each lane → a predictor adapted to its channel."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from multimodal_ser.common.arrays import Samples
from multimodal_ser.predict import Channel, Predictor
from multimodal_ser.predict.channel import ENOUGH_RECORDINGS, LEAST_RECORDINGS


class Listener:
    """Takes the place of a model and keeps an even random sample of the waveforms it is given."""

    name, threshold = "listener", 0.0
    labels: tuple[str, ...] = ("speech",)
    channel: Channel | None = None

    def __init__(self) -> None:
        self.kept: list[Samples] = []
        self._draw = np.random.default_rng(0)
        self._heard = 0

    def waves(self, waves: Sequence[Samples], /, *, speech: bool = False) -> list[Any]:
        """Keeps each waveform with equal probability (reservoir sampling; Vitter, 1985)."""
        for wave in waves:
            self._heard += 1
            # The n-th waveform replaces a kept one with probability k / n: then all n are kept with
            # k / n.
            if len(self.kept) < ENOUGH_RECORDINGS:
                self.kept.append(wave.copy())
            elif (place := int(self._draw.integers(self._heard))) < ENOUGH_RECORDINGS:
                self.kept[place] = wave.copy()
        return [SimpleNamespace(probabilities=np.ones(1), distance=None) for _ in waves]


def without_channels(predictor: Predictor, heard: Sequence[Listener]) -> list[Predictor]:
    """For each lane, the predictor adapted to its channel, which includes its speaker's voice.

    A lane with too little speech uses the channel of all lanes together. If that is too little as
    well, or the model cannot be adapted, the predictor stays as it is.
    """
    if not predictor.adaptable:
        return [predictor] * len(heard)
    every = [wave for lane in heard for wave in lane.kept]
    enough = [lane.kept if len(lane.kept) >= LEAST_RECORDINGS else every for lane in heard]
    return [
        predictor.adapted(predictor.channel_of(kept, speech=True)) if len(kept) >= LEAST_RECORDINGS
        else predictor
        for kept in enough
    ]  # fmt: skip
