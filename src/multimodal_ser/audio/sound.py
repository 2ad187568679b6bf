"""Blocks of samples: mixing or keeping channels, silence, and resampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import soxr

from multimodal_ser.common.arrays import Samples

Mix: TypeAlias = Callable[[Samples], Samples]  # [time, channels] → their mean, or unchanged

_BLOCK = 1 << 18  # samples per block of silence
# Frames that are read and mixed at a time: if one of them is damaged, all are lost, and whether
# channels cancel is decided for all.
READ_FRAMES = 1 << 14
OVER = 2.0  # greatest sample: codecs and resamplers overshoot ±1 by less; more is another scale
CANCELLED = 0.05  # share of the power of uncorrelated channels, below which channels cancel


def to_mono(samples: Samples) -> Samples:
    """The mean of all channels: [time] or [time, channels] to [time].

    Channels that cancel each other, such as those of a line with one wire reversed, would be mixed
    to silence. Then one channel is used: the first that is about as loud as the loudest.
    """
    if samples.ndim == 1:
        return samples
    if samples.shape[1] == 1 or not len(samples):
        return samples[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are refused by name later
        mono = np.asarray(samples.mean(axis=1, dtype=np.float32))
        powers = np.square(samples, dtype=np.float32).mean(axis=0)
        # Mixing uncorrelated channels leaves 1 / channels of their mean power.
        cancels = np.square(mono).mean() * samples.shape[1] < CANCELLED * powers.mean()
    return samples[:, int((powers >= powers.max() / 2).argmax())] if cancels else mono


def apart(channels: int) -> Mix:
    """A function that keeps this number of channels, [time, channels].

    Where a block has another number, each channel is the mix of those that it has.
    """

    def kept(samples: Samples) -> Samples:
        if samples.shape[1] == channels:
            return samples
        return np.repeat(to_mono(samples)[:, None], channels, axis=1)

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
