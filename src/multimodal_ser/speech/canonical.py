"""Waveform → where speech is in it → the canonical waveform: speech alone, at one level.

What a recording has before, between and after its speech, and how far away the speaker sat, changes
next to nothing in what a model then hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multimodal_ser.speech.finder import FRAME, Samples, SpeechFinder
from multimodal_ser.speech.gates import Vad, make_gate

EDGE = 3 * FRAME  # samples kept beside a stretch, 96 ms, beyond those that the finder adds
LEVEL = 0.05  # root mean square of the canonical waveform's speech
JOINT = 160  # samples over which two stretches are faded into each other, 10 ms
_ACTIVE = 0.01  # share of the loud frames' power above which a frame counts as speech: -20 dB
_SILENT = 1e-9  # mean square, -90 dB: one step of 16 bits

SILENT = "the recording is silent"
WORDLESS = "there is sound, but no speech was found in it"


class Speech(NamedTuple):
    """Where speech is in a recording.

    Attributes:
        stretches: (first sample, last sample + 1) of each, in order.
        reason: why there is none; None where there is.
    """

    stretches: tuple[tuple[int, int], ...]
    reason: str | None = None


def find_speech(wave: Samples, vad: Vad = "auto") -> Speech:
    """Finds the speech in a recording.

    Args:
        wave: mono float32 [samples] at 16 kHz.
        vad: ``auto`` and ``silero`` for the network, ``energy`` for the level against the noise
            floor, ``none`` where all is speech.

    Raises:
        SerError: the name is unknown, or silero-vad is not installed.
    """
    finder = SpeechFinder(make_gate(vad))
    found = (*finder.push(wave), *finder.finish())
    if found:
        return Speech(found)
    return Speech((), SILENT if _powers(wave).max() < _SILENT else WORDLESS)


def canonical(wave: Samples, stretches: Sequence[tuple[int, int]] | None = None) -> Samples:
    """The canonical form of a recording: its stretches of speech, with short pauses, at one level.

    Each stretch is kept with up to 96 ms on both sides; what lies farther from speech is left out.

    Args:
        wave: mono float32 [samples] at 16 kHz.
        stretches: from `find_speech`; empty where all is speech, None to find them here (all is
            speech then, where none are found).

    Returns:
        Float32 [samples] whose speech has a root mean square of 0.05; silence stays silence.
    """
    if stretches is None:
        stretches = find_speech(wave).stretches
    kept = _joined([wave[start:end] for start, end in _with_edges(stretches, len(wave))] or [wave])
    kept = kept - kept.mean(dtype=np.float64)
    power = _powers(kept)
    loud = power > _ACTIVE * np.quantile(power, 0.95, method="higher")
    level = power[loud].mean() if loud.any() else 0.0
    return np.asarray(kept * (LEVEL / np.sqrt(level) if level > 1e-14 else 1.0), np.float32)


def _with_edges(stretches: Sequence[tuple[int, int]], samples: int) -> list[tuple[int, int]]:
    """The stretches with what is kept beside them; those that then meet become one."""
    found: list[tuple[int, int]] = []
    for start, end in stretches:
        start, end = max(0, start - EDGE), min(samples, end + EDGE)
        if found and start <= found[-1][1]:
            start = found.pop()[0]
        found.append((start, end))
    return found


def _joined(parts: Sequence[Samples]) -> Samples:
    """Parts one after the other, each faded into the next so that the cut does not click."""
    whole = parts[0]
    rise = np.linspace(0, 1, JOINT, dtype=np.float32)
    for part in parts[1:]:
        fade = whole[-JOINT:] * (1 - rise) + part[:JOINT] * rise
        whole = np.concatenate([whole[:-JOINT], fade, part[JOINT:]])
    return whole


def _powers(wave: Samples) -> np.ndarray:
    """Mean squares about the mean of frames of 32 ms; of the whole where it is shorter."""
    whole = len(wave) // FRAME * FRAME
    frames = wave[:whole].reshape(-1, FRAME) if whole else wave[None]
    return np.asarray(frames.var(axis=1, dtype=np.float64))
