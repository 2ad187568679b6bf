"""Blocks of samples: channels mixed or kept apart, silence, another rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import soxr

from multimodal_ser.common.arrays import Samples

Mix: TypeAlias = Callable[[Samples], Samples]  # [time, channels] to what goes on of it

_BLOCK = 1 << 18  # samples of silence at a time
CANCELLED = 0.05  # of the power that channels without anything in common would leave


def to_mono(samples: Samples) -> Samples:
    """The mean of all channels: [time] or [time, channels] to [time].

    Channels that cancel, such as those of a line whose one wire is turned, are not mixed to
    silence: one of them is taken, the first that is about as loud as any.
    """
    if samples.ndim == 1:
        return samples
    if samples.shape[1] == 1 or not len(samples):
        return samples[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are refused by name later
        mono = np.asarray(samples.mean(axis=1, dtype=np.float32))
        powers = np.square(samples, dtype=np.float32).mean(axis=0)
        # channels that have nothing in common leave a share of 1 / channels
        cancels = np.square(mono).mean() * samples.shape[1] < CANCELLED * powers.mean()
    return samples[:, int((powers >= powers.max() / 2).argmax())] if cancels else mono


def apart(channels: int) -> Mix:
    """Keeps so many channels as they are, [time, channels].

    Raises:
        ValueError: when called, where a block has another number of channels.
    """

    def kept(samples: Samples) -> Samples:
        if samples.shape[1] != channels:
            raise ValueError(
                f"its channels change from {channels} to {samples.shape[1]} on the way; mix them"
            )
        return samples

    return kept


def joined_blocks(blocks: Iterable[Samples]) -> Samples:
    """Blocks one after the other, [time] or [time, channels]; [0] where there is none."""
    found = list(blocks)
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def silence(count: int, like: Samples) -> Iterator[Samples]:
    """So many zeros, in blocks of as many channels as `like`; none where `count` is below 1."""
    for start in range(0, count, _BLOCK):
        yield np.zeros((min(_BLOCK, count - start), *like.shape[1:]), np.float32)


def to_rate(rate: int, wanted: int, channels: int = 1) -> Callable[[Samples, bool], Samples]:
    """A function of a block at `rate`, and whether it is the last, to what is ready at `wanted`."""
    if rate == wanted:
        return lambda block, last: block
    stream = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")
    return lambda block, last: np.asarray(stream.resample_chunk(block, last=last), np.float32)
