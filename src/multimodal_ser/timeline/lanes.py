"""The channels of a recording → lanes: one speaker, channel or mix each, and its sound.

A random sample of the speech of a lane gives a predictor that is adapted to its channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from multimodal_ser.audio import Source, Warn, audio_info, read_blocks, source_name
from multimodal_ser.audio.channels import LEVEL_FRAME, compare_channels
from multimodal_ser.audio.sources import located
from multimodal_ser.audio.speech import Stretch as Found
from multimodal_ser.common.arrays import Bools, Samples
from multimodal_ser.errors import SerError
from multimodal_ser.predict import Channel, Predictor, Recording
from multimodal_ser.predict.channel import ENOUGH_RECORDINGS, LEAST_RECORDINGS
from multimodal_ser.predict.inputs import as_list, unwrapped, with_rate

CHOICES = "mix, each, auto, or numbers such as 0,1"


@dataclass(frozen=True)
class Lane:
    """Sound that is analysed as one: a channel, a speaker, or everything.

    Attributes:
        name: of its speaker; None if speakers are not distinguished.
        channel: its number, counted from 0; None for the mix of all.
        turns: stretches of its speech; None if they are to be found.
    """

    name: str | None = None
    channel: int | None = None
    turns: tuple[Found, ...] | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A recording that can be read several times.

    Attributes:
        sound: a source for `read_blocks`.
        rate: of an array, in Hz.
        leaks: where a channel has nothing of its own, see `Channels.leaks`.
    """

    sound: Source
    rate: int | None
    leaks: Bools | None = None

    @property
    def name(self) -> str:
        """What warnings call it."""
        return source_name(self.sound)

    @property
    def channels(self) -> int:
        """The number of channels."""
        if self.rate is None:
            return audio_info(self.sound, count=False).channels  # type: ignore[arg-type]
        shape = np.shape(self.sound)  # type: ignore[arg-type]
        return int(shape[1]) if len(shape) == 2 and shape[0] != 1 else 1

    @property
    def duration(self) -> float | None:
        """The length in seconds, if it is known."""
        if self.rate is None:
            return audio_info(self.sound).duration  # type: ignore[arg-type]
        return len(self.sound) / self.rate if self.rate > 0 else None  # type: ignore[arg-type]

    def blocks(self, lanes: Sequence[Lane], warn: Warn | None = None) -> Iterator[list[Samples]]:
        """The sound of each lane, mono [time] at 16 kHz, about half a minute at a time.

        Args:
            lanes: what to read.
            warn: called with warnings, as by `read_blocks`; of several passes, only the last warns.
        """
        mixed = all(lane.channel is None for lane in lanes)
        at = 0
        for block in read_blocks(self.sound, sample_rate=self.rate, warn=warn, mixed=mixed):
            if not mixed and self.leaks is not None:
                # Leaks are known per frame of 50 ms; samples in them are set to zero, so that the
                # voice of one channel is not predicted on another.
                places = np.arange(at, at + len(block)) // LEVEL_FRAME
                block = np.where(self.leaks[places.clip(max=len(self.leaks) - 1)], 0, block)
            at += len(block)
            yield [
                np.ascontiguousarray(block if lane.channel is None else block[:, lane.channel])
                for lane in lanes
            ]


def open_recording(source: Recording) -> Opened:
    """Opens a recording; a file object is read into memory, since it is read several times.

    Raises:
        SerError: it is several recordings, an array without its rate, or a file object without
            bytes.
    """
    if as_list(source) is not None:
        raise SerError(
            f"a timeline is of one recording, and a {type(source).__name__} holds several; call "
            "analyze for each, or `ser analyze` for a folder"
        )
    source = unwrapped(source)
    if pair := with_rate(source):
        return Opened(pair[0], pair[1])
    if hasattr(source, "__array__"):
        raise SerError("an array has no sample rate; give (array, rate in Hz)")
    if hasattr(source, "read"):
        source = located(source_name(source), source).getvalue()  # type: ignore[union-attr]
    return Opened(source, None)  # type: ignore[arg-type]


def chosen_lanes(
    recording: Opened, channels: str, names: Sequence[str]
) -> tuple[Opened, list[Lane], list[str]]:
    """Chooses the channels that are analysed.

    Args:
        recording: from `open_recording`.
        channels: ``mix`` for the mean of all; ``each``; numbers, counted from 0; or ``auto``: each,
            if they have different speakers, and the mix otherwise.
        names: of the channels that are used, in order.

    Returns:
        The recording, without leaks from channel to channel; its lanes; notes for the user.

    Raises:
        SerError: there is no such channel.
    """
    count = recording.channels
    numbers = _numbers(channels, names, count)
    if channels == "mix" or count == 1:
        return recording, [Lane()], []
    parts = read_blocks(recording.sound, sample_rate=recording.rate, warn=None, mixed=False)
    found = compare_channels(parts)
    notes = [found.note] if found.note else []
    if channels == "auto":
        if found.kind == "silent":
            return recording, [Lane(None, found.audible[0])], notes
        if found.kind != "speakers":
            return recording, [Lane()], notes
        numbers = found.audible
    recording = Opened(recording.sound, recording.rate, found.leaks())
    if len(numbers) == 1:
        return recording, [Lane(names[0] if names else None, numbers[0])], notes
    alike = found.kind in ("identical", "cancelling")  # asked for one by one all the same
    given = dict(zip(numbers, names, strict=False))
    lanes = [Lane(given.get(number, f"channel {number}"), number) for number in numbers]
    return recording, lanes, notes if alike or channels == "auto" else []


def channels_of(given: str | int | Sequence[int]) -> str:
    """The wanted channels as text, such as ``0,1``, where they are given by number.

    >>> channels_of((0, 1)), channels_of("mix")
    ('0,1', 'mix')
    """
    return given if isinstance(given, str) else ",".join(map(str, np.atleast_1d(given)))


def channel_numbers(channels: str, names: Sequence[str] = ()) -> tuple[int, ...] | None:
    """The channels that are given by number; None for ``mix``, ``each`` and ``auto``.

    Raises:
        SerError: it is none of these, two of them have the same name, or there are more names.
    """
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise SerError(f"names has {twice[0]!r} twice; speakers need different names")
    if channels in ("mix", "each", "auto"):
        return None
    parts = [part.strip() for part in channels.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SerError(f"channels={channels!r}; allowed: {CHOICES}")
    numbers = tuple(dict.fromkeys(map(int, parts)))
    if len(names) > len(numbers):
        raise SerError(
            f"names={','.join(names)} for channels={channels}; give one for each at most"
        )
    return numbers


def _numbers(channels: str, names: Sequence[str], count: int) -> tuple[int, ...]:
    """The numbers of the wanted channels; all for ``each`` and ``auto``."""
    numbers = channel_numbers(channels, names)
    if numbers is None:
        return tuple(range(count))
    if max(numbers) >= count:
        raise SerError(
            f"channels={channels}, and the recording has {count}, numbered from 0; {CHOICES}"
        )
    return numbers


class Listener:
    """Takes the place of a model and keeps an even random sample of the waveforms it is given."""

    name, threshold = "listener", 0.0
    labels: tuple[str, ...] = ("speech",)
    channel: Channel | None = None

    def __init__(self) -> None:
        self.kept: list[Samples] = []
        self._draw = np.random.default_rng(0)
        self._heard = 0

    def waves(
        self,
        waves: Sequence[Samples],
        texts: Sequence[str | None] | None = None,
        /,
        *,
        speech: bool = False,
    ) -> list[Any]:
        """Takes what a `Stream` gives its model; returns what it needs as predictions."""
        self.keep(waves)
        return [SimpleNamespace(probabilities=np.ones(1), distance=None) for _ in waves]

    def keep(self, waves: Sequence[Samples]) -> None:
        """Keeps each waveform with equal probability (reservoir sampling; Vitter, 1985)."""
        for wave in waves:
            self._heard += 1
            # The n-th waveform replaces a kept one with probability k / n: then all n are kept with
            # k / n.
            if len(self.kept) < ENOUGH_RECORDINGS:
                self.kept.append(wave.copy())
            elif (place := int(self._draw.integers(self._heard))) < ENOUGH_RECORDINGS:
                self.kept[place] = wave.copy()


def without_channels(predictor: Predictor, listeners: Sequence[Listener]) -> list[Predictor]:
    """For each lane, the predictor adapted to its channel, which includes its speaker's voice.

    A lane with too little speech uses the channel of all lanes together. If that is too little as
    well, or the model cannot be adapted, the predictor stays as it is.
    """
    if not predictor.adaptable:
        return [predictor] * len(listeners)
    every = [wave for lane in listeners for wave in lane.kept]
    enough = [lane.kept if len(lane.kept) >= LEAST_RECORDINGS else every for lane in listeners]
    return [
        predictor.adapted(predictor.channel_of(kept, speech=True)) if len(kept) >= LEAST_RECORDINGS
        else predictor
        for kept in enough
    ]  # fmt: skip
