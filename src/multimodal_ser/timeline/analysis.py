"""A recording of any length → its lanes → the emotions of each over time → one Timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypeAlias, TypeVar, cast

from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.predict import Predictor, Recording
from multimodal_ser.timeline.lanes import Lane, Opened, chosen_lanes, open_recording
from multimodal_ser.timeline.listening import Listener, without_channels
from multimodal_ser.timeline.speakers import Diariser, Known, turns_by_speaker
from multimodal_ser.timeline.stream import HOP, SMOOTHING, WINDOW, Stream
from multimodal_ser.timeline.track import (
    Model,
    Point,
    Segment,
    Speaker,
    Timeline,
    Word,
    overall,
)
from multimodal_ser.timeline.words import Words

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
    channels: str = "auto",
    names: Sequence[str] = (),
    speakers: Diariser | None = None,
    count: int | None = None,
    adapt: bool = False,
    on_progress: Progressed | None = None,
) -> Timeline:
    """Predicts the emotions of a recording of any length over time, in bounded memory.

    Args:
        source: path, bytes, binary file object, or (array, rate in Hz).
        predictor: what `load` returns.
        window: seconds that are predicted at a time, 0.5 to 30; shorter speech goes whole.
        hop: seconds from one window to the next, 0.1 to a window.
        smoothing: seconds, the time constant of the smoothing; 0 for none.
        vad: ``auto`` and ``silero`` for the network, ``energy`` for the level against the noise
            floor, ``none`` where all is speech.
        words: sound → words, such as a `Recogniser`; None leaves words out.
        channels: ``mix`` for the mean of all; ``each`` or numbers such as ``0,1``, one lane each on
            one clock; ``auto`` hears each where they clearly have different speakers, else the mix.
        names: of the channels that are heard, in order, or of the speakers, in the order in which
            they first speak, such as ``("agent", "customer")``.
        speakers: tells speakers apart where they are not on channels of their own, such as
            `Voices`, `pyannote` or `read_rttm`; None does not.
        count: how many speak, where that is known.
        adapt: take out what the speech of each lane has in common that is no emotion; needs a model
            that can be adapted and half a minute of speech, and is left out otherwise.
        on_progress: called with the seconds that are done, and with all where they are known.

    Returns:
        The timeline; a recording without speech has an empty one.

    Raises:
        SerError: the recording cannot be read, or a setting is out of its range.
    """
    recording, lanes, notes = chosen_lanes(open_recording(source), channels, names)
    said: tuple[Word, ...] | None = None
    if speakers is not None and len(lanes) == 1:
        if words is not None:
            said, words = _words(recording, lanes, words, vad), None
        lanes = _told_apart(recording, lanes[0], speakers, count, names)
    settings: dict[str, Any] = {"window": window, "hop": hop, "smoothing": smoothing, "vad": vad}
    models: list[Any] = [predictor] * len(lanes)
    if adapt and getattr(predictor, "adaptable", False):
        models = without_channels(cast(Predictor, predictor), _heard(recording, lanes, vad))
    streams = [
        Stream(model, words=words, finder=_finder(lane), **settings)
        for model, lane in zip(models, lanes, strict=True)
    ]
    found = _merged(lanes, _fed(recording, lanes, streams, on_progress))
    return replace(found if said is None else _with_words(found, said), notes=tuple(notes))


def _told_apart(
    recording: Opened, lane: Lane, speakers: Diariser, count: int | None, names: Sequence[str]
) -> list[Lane]:
    """A lane for each speaker of one; the one as it is where nobody speaks."""
    sound = (sounds[0] for sounds in recording.blocks([lane]))
    parts = turns_by_speaker(speakers(sound, count))
    called = [*names, *(f"speaker {number + 1}" for number in range(len(names), len(parts)))]
    return [Lane(called[k], lane.channel, turns) for k, turns in enumerate(parts)] or [lane]


def _finder(lane: Lane) -> Known | None:
    return None if lane.turns is None else Known(lane.turns)


def _words(recording: Opened, lanes: Sequence[Lane], words: Words, vad: Vad) -> tuple[Word, ...]:
    """The words of all, heard in one piece: what lies between two turns belongs to another."""
    stream = Stream(Listener(), window=WINDOW, hop=WINDOW, smoothing=0, vad=vad, words=words)
    return _fed(recording, lanes, [stream], None)[0].words


def _with_words(found: Timeline, words: Sequence[Word]) -> Timeline:
    """Gives each word to the nearest segment, and so to its speaker."""
    texts: list[list[str]] = [[] for _ in found.segments]
    told = []
    for word in words if found.segments else ():
        middle = (word.start + word.end) / 2
        off = [max(s.start - middle, middle - s.end) for s in found.segments]
        place = off.index(min(off))
        texts[place].append(word.text)
        told.append(replace(word, speaker=found.segments[place].speaker))
    segments = tuple(
        replace(s, text=" ".join(text)) for s, text in zip(found.segments, texts, strict=True)
    )
    return replace(found, segments=segments, words=tuple(told))


def _fed(
    recording: Opened, lanes: Sequence[Lane], streams: Sequence[Stream], tell: Progressed | None
) -> list[Timeline]:
    """Plays the recording to a stream for each lane."""
    whole = recording.duration if tell else None
    done = 0
    for sounds in recording.blocks(lanes):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.push(sound)
        done += len(sounds[0])
        if tell:
            tell(done / SAMPLE_RATE, whole)
    return [stream.finish() for stream in streams]


def _heard(recording: Opened, lanes: Sequence[Lane], vad: Vad) -> list[Listener]:
    """A part of the speech of each lane, in pieces of 3 s."""
    listeners = [Listener() for _ in lanes]
    settings: dict[str, Any] = {"window": WINDOW, "hop": WINDOW, "smoothing": 0, "vad": vad}
    streams = [
        Stream(one, finder=_finder(lane), **settings)
        for one, lane in zip(listeners, lanes, strict=True)
    ]
    _fed(recording, lanes, streams, None)
    return listeners


def _merged(lanes: Sequence[Lane], found: Sequence[Timeline]) -> Timeline:
    """One timeline of all lanes, in order of time; with a single lane without a name, that one."""
    if len(found) == 1 and lanes[0].name is None:
        return found[0]
    segments = _by_time(lanes, [one.segments for one in found])
    distances = [one.distance for one in found if one.distance is not None]
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
        speakers=tuple(map(_speaker, lanes, found)),
    )


def _speaker(lane: Lane, found: Timeline) -> Speaker:
    seconds = sum(end - start for start, end in found.speech)
    name = str(lane.name)
    return Speaker(name, lane.channel, seconds, found.overall, found.adapted, found.scale)


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
