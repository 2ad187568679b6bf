"""A recording of any length → its lanes → the emotions of each over time → a Timeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from multimodal_ser.audio import Warn
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.errors import SerError, counted
from multimodal_ser.predict import Predictor, Recording
from multimodal_ser.timeline.lanes import (
    Lane,
    Listener,
    Opened,
    channels_of,
    chosen_lanes,
    open_recording,
    without_channels,
)
from multimodal_ser.timeline.speakers import Diariser, Known, diariser_of, turns_by_speaker
from multimodal_ser.timeline.stream import HOP, SMOOTHING, WINDOW, Stream
from multimodal_ser.timeline.stretch import text_of
from multimodal_ser.timeline.track import Model, Point, Segment, Speaker, Timeline, Word, overall
from multimodal_ser.timeline.words import Words

_log = logging.getLogger(__name__)
_LATE = 0.5  # seconds that turns may reach beyond the end, since annotations are rounded
_BY_CHANNEL = (
    "each channel is taken for a speaker, and `speakers` is not used; channels=mix uses it"
)

Progressed: TypeAlias = Callable[[float, float | None], None]
_Timed = TypeVar("_Timed", Segment, Point, Word)


def analyze(
    source: Recording,
    predictor: Model,
    *,
    window: float = WINDOW,
    hop: float = HOP,
    smoothing: float = SMOOTHING,
    vad: Vad = "auto",
    words: Words | None = None,
    channels: str | int | Sequence[int] = "auto",
    names: Sequence[str] = (),
    speakers: Diariser | str | int | None = None,
    count: int | None = None,
    adapt: bool = False,
    on_progress: Progressed | None = None,
    warn: Warn | None = _log.warning,
) -> Timeline:
    """Predicts the emotions of a recording of any length over time, in bounded memory.

    Args:
        source: path, bytes, binary file object, or (array, rate in Hz).
        predictor: from `load`.
        window: length of a window that is predicted, in seconds, 0.5 to 30; shorter speech is one
            window.
        hop: seconds from one window to the next, 0.1 to a window.
        smoothing: time constant of the smoothing, in seconds; 0 for none.
        vad: ``auto`` and ``silero`` for the network, ``energy`` for the level above the noise
            floor, ``none`` to take everything as speech.
        words: sound → words, such as a `Recogniser`; None leaves words out.
        channels: ``mix`` for the mean of all; ``each``, or numbers such as ``"0,1"``, for one lane
            per channel on a common clock; ``auto`` for one lane per channel if they clearly have
            different speakers, and the mix otherwise.
        names: of the channels that are used, in order, or of the speakers in the order in which
            they first speak, such as ``("agent", "customer")``; where none is given, those
            of the diariser, such as an RTTM file's, or ``speaker 1`` and so on.
        speakers: a diariser for speakers who are not on channels of their own (where each channel
            is analysed by itself, it is not used, and a note says so unless there are `count`
            channels), such as `Voices`, `pyannote` or `read_rttm`, or as `ser analyze --speakers`
            has it; None for none.
        count: number of speakers, if it is known.
        adapt: remove the channel of each lane. It needs a model that can be adapted and half a
            minute of speech; otherwise nothing is removed. A predictor that is adapted already
            keeps its own channel.
        on_progress: called with the seconds that are done, and the total if it is known.
        warn: called with warnings for the user, as by `read_blocks`; they are among the
            timeline's notes, too.

    Returns:
        The timeline; a recording without speech has an empty one.

    Raises:
        SerError: the recording cannot be read, or a setting is out of its range.
    """
    _check_given(predictor, words, adapt)
    names = names.split(",") if isinstance(names, str) else names or ()
    names = [name for one in names if (name := str(one).strip())]
    channels = channels_of(channels)
    _check_count(count, speakers)
    if isinstance(speakers, str | int):
        speakers, number = diariser_of(str(speakers), vad)
        count = number or count
    recording, lanes, notes = chosen_lanes(open_recording(source), channels, names)
    recognised: Timeline | None = None
    if speakers is not None and len(lanes) == 1:
        if words is not None:
            # Words are recognised in the whole sound, not turn by turn: Whisper needs the context
            # of sentences.
            recognised, words = _recognised(recording, lanes, words, vad), None
        lanes = _lanes_by_speaker(recording, lanes[0], speakers, count, names)
        found_speakers = sum(lane.turns is not None for lane in lanes)
        if count and found_speakers not in (0, count):
            notes = [*notes, f"{counted(count, 'speaker')} asked for, {found_speakers} found"]
    elif speakers is not None and count != len(lanes):  # the channels may be the speakers meant
        notes = [*notes, _BY_CHANNEL]
    called = [lane.name for lane in lanes]
    if twice := [name for name in names if called.count(name) > 1]:
        raise SerError(
            f"names={','.join(names)}: {twice[0]!r} is what another one without a name is called; "
            "give a name for each channel or speaker"
        )
    if unused := names[sum(lane.name is not None for lane in lanes) :]:
        notes = [*notes, f"without a channel or speaker of that name: {', '.join(unused)}"]
    models: list[Any] = [predictor] * len(lanes)
    if adapt and getattr(predictor, "adaptable", False) and predictor.channel is None:
        models = _adapted_models(recording, lanes, cast(Predictor, predictor), vad, on_progress)
    settings: dict[str, Any] = {"window": window, "hop": hop, "smoothing": smoothing, "vad": vad}
    said = None if recognised is None else recognised.words
    streams = [
        Stream(model, words=words, finder=_finder(lane), said=said, **settings)
        for model, lane in zip(models, lanes, strict=True)
    ]
    warnings: list[str] = []  # such as that the recording is truncated
    found = _merged(lanes, _run_streams(recording, lanes, streams, on_progress, warnings.append))
    if warn is not None:
        for line in warnings:
            warn(line)
    read = [line.removeprefix(f"{recording.name}: ") for line in warnings]
    notes = [*notes, *read, *found.notes, *_late_turns(lanes, found.duration)]
    return replace(
        found if recognised is None else _with_words(found, recognised), notes=tuple(notes)
    )


def _check_given(predictor: object, words: object, adapt: object) -> None:
    """Raises SerError for what is easily given in the place of a model, recogniser or bool."""
    if adapt not in (True, False):  # such as "off", which would count as True
        raise SerError(f"adapt={adapt!r}; allowed: True, False; or a predictor that is adapted()")
    if not (words is None or callable(words)):
        raise SerError(f"words={words!r}; allowed: None, or a recogniser such as Recogniser()")
    if not hasattr(predictor, "waves"):
        raise SerError(f"predictor={predictor!r}; give a model: load({predictor!r})")


def _check_count(count: object, speakers: object) -> None:
    """Raises SerError unless `count` is a number of speakers, and somebody is to find them."""
    if count is None:
        return
    if not isinstance(count, int | np.integer) or count < 1:
        raise SerError(f"count={count!r}; allowed: None, or a number of speakers from 1")
    if speakers in (None, "off"):
        raise SerError(f"count={count} without speakers, which find them; give speakers={count}")


def _adapted_models(
    recording: Opened,
    lanes: Sequence[Lane],
    predictor: Predictor,
    vad: Vad,
    on_progress: Progressed | None,
) -> list[Predictor]:
    """The predictor of each lane, without its channel, for which the recording is read once."""
    listeners = [Listener() for _ in lanes]
    # Nothing is predicted yet, so the progress stays at 0; but a server stops or pauses work in
    # this call.
    tell = on_progress and (lambda done, whole: on_progress(0.0, whole))
    listen(recording, lanes, listeners, vad, tell)
    return without_channels(predictor, listeners)


def _lanes_by_speaker(
    recording: Opened, lane: Lane, speakers: Diariser, count: int | None, names: Sequence[str]
) -> list[Lane]:
    """Divides a lane into one for each speaker; unchanged if nobody speaks."""
    sound = (sounds[0] for sounds in recording.blocks([lane]))
    parts = turns_by_speaker(speakers(sound, count))
    called = [*names]
    for number, own in enumerate([*parts][len(names) :], len(names) + 1):
        # a diariser's own names are kept, such as an RTTM file's; numbers only tell speakers apart
        known = isinstance(own, str) and own not in called
        called.append(str(own) if known else f"speaker {number}")
    return [
        Lane(name, lane.channel, turns) for name, turns in zip(called, parts.values(), strict=False)
    ] or [lane]


def _late_turns(lanes: Sequence[Lane], duration: float) -> list[str]:
    """A note about turns beyond the end of the recording, which are cut off."""
    ends = [lane.turns[-1].end for lane in lanes if lane.turns]
    last = max(ends, default=0) / SAMPLE_RATE
    if last <= duration + _LATE:
        return []
    return [
        f"the turns of its speakers reach to {last:.1f} s, and it ends at {duration:.1f} s: check "
        "that they are of this recording, and in seconds"
    ]


def _finder(lane: Lane) -> Known | None:
    return None if lane.turns is None else Known(lane.turns)


def _recognised(recording: Opened, lanes: Sequence[Lane], words: Words, vad: Vad) -> Timeline:
    """A timeline with the words of all speakers, recognised in the undivided sound."""
    stream = Stream(Listener(), window=WINDOW, hop=WINDOW, smoothing=0, vad=vad, words=words)
    return _run_streams(recording, lanes, [stream])[0]


def _with_words(found: Timeline, recognised: Timeline) -> Timeline:
    """Assigns each recognised word to the nearest segment, and so to its speaker."""
    spoken: list[list[Word]] = [[] for _ in found.segments]
    assigned = []
    for word in recognised.words if found.segments else ():
        middle = (word.start + word.end) / 2
        # Distance to a segment; negative inside, and most negative near its middle.
        off = [max(s.start - middle, middle - s.end) for s in found.segments]
        place = off.index(min(off))
        spoken[place].append(word)
        assigned.append(replace(word, speaker=found.segments[place].speaker))
    segments = tuple(
        replace(s, text=text_of(own)) for s, own in zip(found.segments, spoken, strict=True)
    )
    return replace(found, segments=segments, words=tuple(assigned), doubt=recognised.doubt)


def _run_streams(
    recording: Opened,
    lanes: Sequence[Lane],
    streams: Sequence[Stream],
    tell: Progressed | None = None,
    warn: Warn | None = None,
) -> list[Timeline]:
    """Feeds the sound of each lane to its stream; returns their timelines."""
    whole = recording.duration if tell else None
    done = 0
    for sounds in recording.blocks(lanes, warn):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.push(sound)
        done += len(sounds[0])
        if tell:
            tell(done / SAMPLE_RATE, whole)
    return [stream.finish() for stream in streams]


def listen(
    recording: Opened,
    lanes: Sequence[Lane],
    listeners: Sequence[Listener],
    vad: Vad,
    tell: Progressed | None = None,
) -> None:
    """Gives the speech of each lane, in pieces of 3 s, to its listener; gives no warnings."""
    settings: dict[str, Any] = {"window": WINDOW, "hop": WINDOW, "smoothing": 0, "vad": vad}
    streams = [
        Stream(one, finder=_finder(lane), **settings)
        for one, lane in zip(listeners, lanes, strict=True)
    ]
    _run_streams(recording, lanes, streams, tell)


def _merged(lanes: Sequence[Lane], found: Sequence[Timeline]) -> Timeline:
    """One timeline of all lanes, sorted by time; a single lane without a name stays as it is."""
    if len(found) == 1 and lanes[0].name is None:
        return found[0]
    segments = _by_time(lanes, [one.segments for one in found])
    distances = [one.distance for one in found if one.distance is not None]
    attributes = [one.attributes for one in found if one.attributes is not None]
    return replace(
        found[0],
        duration=max(one.duration for one in found),
        segments=segments,
        track=_by_time(lanes, [one.track for one in found]),
        speech=_union([span for one in found for span in one.speech]),
        overall=overall(found[0].labels, segments),
        words=_by_time(lanes, [one.words for one in found]),
        adapted=None,
        distance=fmean(distances) if distances else None,
        doubt=next((one.doubt for one in found if one.doubt), None),
        notes=next((one.notes for one in found if one.notes), ()),
        speakers=tuple(
            Speaker(str(lane.name), lane.channel, one.spoken, one.overall, one.adapted, one.scale)
            for lane, one in zip(lanes, found, strict=True)
        ),
        attributes=_merged(lanes, attributes) if attributes else None,
    )


def _by_time(lanes: Sequence[Lane], parts: Sequence[Iterable[_Timed]]) -> tuple[_Timed, ...]:
    named = [
        replace(item, speaker=lane.name)
        for lane, part in zip(lanes, parts, strict=True)
        for item in part
    ]
    return tuple(sorted(named, key=lambda item: item.start))


def _union(spans: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Spans of time without overlaps, in order."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)
