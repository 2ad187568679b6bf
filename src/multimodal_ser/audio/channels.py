"""The channels of a recording → what they contain: one scene, equal sound, or one speaker each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from multimodal_ser.audio.sound import CANCELLED
from multimodal_ser.common.arrays import Bools, Floats, Samples, Singles
from multimodal_ser.config.settings import SAMPLE_RATE

_Kind: TypeAlias = Literal["one", "silent", "identical", "cancelling", "speakers", "scene"]
_Levels: TypeAlias = Singles

LEVEL_FRAME = SAMPLE_RATE // 20  # samples, 50 ms
FLOOR, RANGE = -65.0, 40.0  # dB of full scale, and dB below loud frames: quieter frames are pauses
_SILENT = 50.0  # dB below the loudest channel
_IDENTICAL = 1e-3  # share of their power that the difference of two equal channels may have
_APART = 10.0  # dB by which one channel is louder than the others, in the median frame
_ALONE = 6.0  # dB by which a channel is the loudest
# Each speaker's channel is the loudest for so many seconds, and in this share of frames with sound.
_LEAST_SECONDS, _LEAST_SHARE = 1.0, 0.02
_LEAK = 15.0  # dB below another channel, and below its own speech: what leaks into a channel
_NEAR = 7  # frames; short enough to join two syllables, and no more


@dataclass(frozen=True, eq=False)
class Channels:
    """How the channels of a recording relate to each other.

    Attributes:
        kind: ``one`` channel; all but one ``silent``; ``identical``; ``cancelling`` each other if
            they are mixed; ``speakers``, one on each channel; or ``scene``: several microphones
            record the same sound.
        audible: numbers of the channels that are not silent, counted from 0.
        count: number of all channels.
        levels: dB of full scale, every 50 ms, [frames, channels].
    """

    kind: _Kind
    audible: tuple[int, ...]
    count: int
    levels: _Levels

    @property
    def note(self) -> str | None:
        """A note for the user; None for a single channel."""
        silent = [number for number in range(self.count) if number not in self.audible]
        quiet = f"; silent: {_listed(silent)}" if silent and self.audible else ""
        return {
            "one": "",
            "silent": f"of {self.count} channels, only channel {_listed(self.audible)} has sound",
            "identical": f"its {self.count} channels are identical",
            "cancelling": f"its {self.count} channels cancel each other: one of them is heard",
            "speakers": f"its channels {_listed(self.audible)} have different speakers{quiet}",
            "scene": f"its {self.count} channels hear the same scene: they are mixed{quiet}",
        }[self.kind] or None

    def leaks(self) -> Bools:
        """True where a channel holds only crosstalk from another channel, [frames, channels]."""
        around = ((_NEAR // 2, _NEAR - 1 - _NEAR // 2), (0, 0))
        # The loudest frame within seven: between two syllables, a channel counts as loud as the
        # syllables are.
        near = sliding_window_view(np.pad(self.levels, around, "edge"), _NEAR, 0).max(2)
        others = np.stack(
            [np.delete(near, number, axis=1).max(1) for number in range(self.count)], 1
        )
        speech = []  # level of each channel while it is the loudest
        for levels, leading in zip(near.T, (near > others).T, strict=True):
            speech.append(np.percentile(levels[leading], 90) if leading.any() else FLOOR)
        return (near < others - _LEAK) & (near < np.array(speech) - _LEAK)


def compare_channels(blocks: Iterable[Samples]) -> Channels:
    """Compares the channels of a recording, keeping one number per channel and 50 ms in memory.

    Args:
        blocks: [time, channels] at 16 kHz, see `read_blocks`.
    """
    # Products of all pairs of channels, [C, C]: they suffice to tell equal and cancelling ones.
    power: Any = 0
    levels = []
    rest: Samples | None = None  # the samples of an incomplete frame
    for block in blocks:
        sound = block if rest is None else np.concatenate([rest, block])
        whole = len(sound) // LEVEL_FRAME * LEVEL_FRAME
        frames, rest = sound[:whole].reshape(-1, LEVEL_FRAME, sound.shape[1]), sound[whole:]
        levels.append(_decibels(np.square(frames).mean(1)))
        power = sound[:whole].T @ sound[:whole] + power
    if rest is None:
        return Channels("one", (0,), 1, np.zeros((0, 1), np.float32))
    if len(rest):
        levels.append(_decibels(np.square(rest).mean(0, keepdims=True)))
        power = rest.T @ rest + power
    return _classified(np.asarray(power, np.float64), np.concatenate(levels))


def _classified(power: Floats, levels: _Levels) -> Channels:
    """Classifies channels by their products, summed over time [C, C], and levels [frames, C]."""
    count = len(power)
    loud = _loud(levels)
    audible = tuple(np.flatnonzero(loud > max(FLOOR, loud.max() - _SILENT)).tolist())
    kind: _Kind = "scene"
    own = np.diag(power)
    if count == 1:
        kind = "one"
    elif len(audible) <= 1:
        kind = "silent" if audible else "identical"
    # Power of the difference of two channels: Σ (a − b)² = Σ a² + Σ b² − 2 Σ ab.
    elif (own[0] + own - 2 * power[0] <= _IDENTICAL * (own[0] + own)).all():
        kind = "identical"
    # The sum over all pairs is the power of the sum of all channels, as `MonoMix` mixes them.
    elif power.sum() < CANCELLED * own.sum():
        kind = "cancelling"
    elif _speakers(levels[:, audible]):
        kind = "speakers"
    return Channels(kind, audible, count, levels)


def _speakers(levels: _Levels) -> bool:
    """Whether there is mostly one channel far louder than the others, and each is at times."""
    ordered = np.sort(levels, axis=1)
    top, margin = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    active = np.asarray(top > max(FLOOR, float(_loud(top)) - RANGE))
    if not active.any() or np.median(margin[active]) < _APART:
        return False
    alone = active & (margin >= _ALONE)
    turns = np.bincount(levels.argmax(1)[alone], minlength=levels.shape[1])
    least = max(_LEAST_SECONDS * SAMPLE_RATE / LEVEL_FRAME, _LEAST_SHARE * active.sum())
    return bool((turns >= least).all())


def _loud(levels: _Levels) -> Any:
    """The level that a channel exceeds for a second; in less than 20 s, for a twentieth of them.

    Someone who says little in a long recording speaks for far less than a twentieth of it.
    """
    second = SAMPLE_RATE / LEVEL_FRAME / len(levels)
    return np.percentile(levels, 100 * (1 - min(0.05, second)), axis=0)


def _decibels(power: NDArray[np.floating]) -> _Levels:
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)), np.float32)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers)
