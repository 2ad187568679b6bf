"""Waveform → the speech in it → the canonical waveform: only speech, at one level.

What a recording has before, between and after its speech, and the distance of the speaker from the
microphone, have almost no effect on a model's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multimodal_ser.audio.speech.finder import CONTEXT, FRAME, SpeechFinder, Stretch
from multimodal_ser.audio.speech.gates import SileroGate, WeakGate, make_gate
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import Vad
from multimodal_ser.encoders.base import between_passes

LEVEL = 0.05  # root mean square of the canonical waveform's speech
_JOINT = 160  # samples (10 ms) over which two stretches are cross-faded
_ACTIVE = 0.01  # -20 dB: frames above this share of the loud frames' power count as speech
_FAINT = 10**-4.5  # -45 dB: both ends are cut where they are below this share of speech's power
_PIECE = 1 << 20  # samples, about a minute, that are searched at a time
_SILENT = 1e-9  # mean square, -90 dB: one step of 16 bits

SILENT = "the recording is silent"
WORDLESS = "there is sound, but no speech was found in it"


class Speech(NamedTuple):
    """The speech in a recording.

    Attributes:
        stretches: stretches of speech, in order.
        reason: why there is none; None if there is speech.
    """

    stretches: tuple[Stretch, ...]
    reason: str | None = None

    @property
    def sure(self) -> float:
        """How certain it is that there is speech, from 0 to 1."""
        return max((stretch.sure for stretch in self.stretches), default=1.0)


def find_speech(wave: Samples, vad: Vad = "auto") -> Speech:
    """Finds the speech in a recording.

    Args:
        wave: mono float32 [samples] at 16 kHz.
        vad: ``auto`` and ``silero`` for the network, ``energy`` for the level above the noise
            floor, ``none`` to take everything as speech.

    Raises:
        SerError: the name is unknown, or silero-vad is not installed.
    """
    gate = make_gate(vad)
    # If the network finds nothing with its own thresholds, lower ones find possible speech, whose
    # certainty is then 0.
    gates = [gate, WeakGate()] if isinstance(gate, SileroGate) else [gate]
    for each in gates:
        finder = SpeechFinder(each)
        stretches: list[Stretch] = []
        for first in range(0, len(wave), _PIECE):
            if first:
                between_passes.get()()  # a server lets other requests take their turn
            stretches += finder.push(wave[first : first + _PIECE])
        stretches += finder.finish()
        if stretches:
            return Speech(tuple(stretches))
    return Speech((), SILENT if _powers(wave).max() < _SILENT else WORDLESS)


def canonical(wave: Samples, stretches: Sequence[Stretch] | None = None) -> Samples:
    """The canonical form of a recording: its stretches of speech, with short pauses, at one level.

    Each stretch is kept with up to 96 ms on both sides. Everything further from speech is removed,
    and so are both ends where they are 45 dB below the speech, so that added silence changes
    nothing.

    Args:
        wave: mono float32 [samples] at 16 kHz.
        stretches: from `find_speech`; empty if everything is speech; None to find them here, where
            a recording without any is taken as speech.

    Returns:
        Float32 [samples] whose speech has a root mean square of 0.05; silence stays silence.
    """
    if stretches is None:
        stretches = find_speech(wave).stretches
    spans: list[tuple[int, int]] = []
    for start, end, _ in stretches:
        start, end = max(0, start - CONTEXT), min(len(wave), end + CONTEXT)
        if spans and start <= spans[-1][1]:  # with their margins they touch: they become one
            start = spans.pop()[0]
        spans.append((start, end))
    kept = _joined([wave[start:end] for start, end in spans] or [wave])
    # A constant offset would count as loudness.
    kept = kept - kept.mean(dtype=np.float64)
    power = _powers(kept)
    # Relative to a high quantile instead of the maximum: a click does not decide the level.
    loud = power[power > _ACTIVE * np.quantile(power, 0.95, method="higher")]
    if not len(loud) or loud.mean() < 1e-14:
        return np.asarray(kept, np.float32)
    audible = np.flatnonzero(_powers(kept, _JOINT) > _FAINT * loud.mean())
    last = len(kept) if audible[-1] == len(kept) // _JOINT - 1 else (audible[-1] + 1) * _JOINT
    kept = kept[audible[0] * _JOINT : last]
    return np.asarray(kept * (LEVEL / np.sqrt(loud.mean())), np.float32)


def lengthened(wave: Samples, least: int) -> Samples:
    """A recording [samples], repeated until it lasts `least` samples.

    A frozen encoder gives other frames at its first positions than later, so single words would
    seem unlike the sentences that the head was trained on.
    """
    return np.tile(wave, -(-least // max(1, len(wave)))) if len(wave) < least else wave


def _joined(parts: Sequence[Samples]) -> Samples:
    """Concatenates parts with cross-fades, so that the cuts do not click."""
    whole = parts[0]
    rise = np.linspace(0, 1, _JOINT, dtype=np.float32)
    for part in parts[1:]:
        fade = whole[-_JOINT:] * (1 - rise) + part[:_JOINT] * rise
        whole = np.concatenate([whole[:-_JOINT], fade, part[_JOINT:]])
    return whole


def _powers(wave: Samples, frame: int = FRAME) -> np.ndarray:
    """The variance of each frame; of the whole waveform if it is shorter than a frame."""
    whole = len(wave) // frame * frame
    frames = wave[:whole].reshape(-1, frame) if whole else wave[None]
    return frames.var(axis=1, dtype=np.float64)
