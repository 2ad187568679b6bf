"""Blocks of samples: mixing or keeping channels, silence, and resampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import soxr

from multimodal_ser.common.arrays import Samples

Mix: TypeAlias = Callable[[Samples], Samples]  # [time, channels] → their mean, or unchanged

_BLOCK = 1 << 18  # samples per block of silence
# Frames that are read and mixed at a time: if one of them is damaged, all are lost.
READ_FRAMES = 1 << 14
OVER = 2.0  # greatest sample: codecs and resamplers overshoot ±1 by less; more is another scale
# Share of the power of uncorrelated channels, below which channels cancel: a lossy codec leaves
# that much of equal and opposite ones (`test_audio.py`), and two microphones are far above it.
CANCELLED = 0.3


class MonoMix:
    """The mean of all channels, block after block: [time] or [time, channels] to [time].

    Channels that cancel each other, such as those of a line with one wire reversed, would be mixed
    to silence, or to what a lossy codec changed. Then one channel is used: the first that is about
    as loud as the loudest. Whether they cancel is decided for a block together with the sound
    before it, `READ_FRAMES` in all: for milliseconds alone, it would be by chance.
    """

    def __init__(self) -> None:
        self._mono: Any = 0.0
        self._own: Any = None

    def __call__(self, samples: Samples) -> Samples:
        """Mixes the next block."""
        if samples.ndim == 1:
            return samples
        if samples.shape[1] == 1 or not len(samples):
            return samples[:, 0]
        with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are refused by name later
            mono = np.asarray(samples.mean(axis=1, dtype=np.float32))
            own = np.square(samples, dtype=np.float32).sum(axis=0)
            if self._own is None or self._own.shape != own.shape:
                self._mono, self._own = 0.0, np.zeros_like(own)
            kept = max(0.0, 1 - len(samples) / READ_FRAMES)
            self._mono = kept * self._mono + np.square(mono).sum()
            self._own = kept * self._own + own
            # Mixing uncorrelated channels leaves 1 / channels of their mean power.
            cancels = self._mono * samples.shape[1] < CANCELLED * self._own.mean()
        return samples[:, int((self._own >= self._own.max() / 2).argmax())] if cancels else mono


def apart(channels: int) -> Mix:
    """A function that keeps this number of channels, [time, channels].

    Where a block has another number, each channel is the mix of those that it has.
    """
    mix = MonoMix()

    def kept(samples: Samples) -> Samples:
        if samples.shape[1] == channels:
            return samples
        return np.repeat(mix(samples)[:, None], channels, axis=1)

    return kept


def other_channels(before: int, now: int) -> str:
    """The note about a recording whose channels are kept apart and whose number changes."""
    return f"its channels change from {before} to {now} on the way: there, each of them is the mix"


def joined_blocks(blocks: Iterable[Samples]) -> Samples:
    """Concatenates blocks, [time] or [time, channels]; [0] if there are none."""
    parts = list(blocks)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def silence(count: int, like: Samples) -> Iterator[Samples]:
    """`count` zeros in blocks, with as many channels as `like`; none if `count` is below 1."""
    for start in range(0, count, _BLOCK):
        yield np.zeros((min(_BLOCK, count - start), *like.shape[1:]), np.float32)


def to_rate(rate: int, wanted: int, channels: int = 1) -> Callable[[Samples, bool], Samples]:
    """A function: block at `rate`, whether it is the last → samples ready at `wanted`."""
    if rate == wanted:
        return lambda block, last: block
    stream = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")
    return lambda block, last: np.asarray(stream.resample_chunk(block, last=last), np.float32)
