"""Timeline → files for annotation tools (Praat, ELAN, Label Studio), and RTTM of speaker turns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from multimodal_ser.common.files import ENDINGS, one_line, scratch_folder
from multimodal_ser.errors import import_extra
from multimodal_ser.timeline.track import Segment, Timeline, Word, display_name

ANYBODY = "speech"  # name of the speaker if speakers are not distinguished
_CONTROL = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # illegal in XML
_LEAST = 0.001  # seconds: these formats have milliseconds, and no empty intervals
_DATE = "1970-01-01T00:00:00+00:00"  # fixed: the same timeline gives the same bytes


def tiers(timeline: Timeline) -> Iterator[tuple[str, list[tuple[float, float, str]]]]:
    """A tier of emotions for each speaker, and one of words if there are any.

    Yields:
        The name of a tier, and its intervals (start, end, text), in order and without overlaps.
    """
    names: list[str | None] = [one.name for one in timeline.speakers]
    for name in names or [None]:
        items: list[tuple[str, list[Segment] | list[Word]]] = [
            ("emotion", [s for s in timeline.segments if s.speaker == name]),
            ("words", [w for w in timeline.words if w.speaker == name]),
        ]
        for kind, found in items:
            if found or kind == "emotion":
                # XML holds no control characters, and readers of TextGrids no line breaks in names
                tier = kind if name is None else f"{one_line(name)} {kind}"
                yield tier, _apart(found, timeline.duration)


def _apart(items: list[Segment] | list[Word], duration: float) -> list[tuple[float, float, str]]:
    """Intervals rounded to milliseconds, without overlaps, within the recording."""
    made: list[tuple[float, float, str]] = []
    for item in items:
        start = round(max(item.start, made[-1][1] if made else 0.0), 3)
        end = round(min(item.end, duration), 3)
        if end - start >= _LEAST:
            text = item.text if isinstance(item, Word) else item.label
            if isinstance(item, Segment) and item.scale is not None:
                text = item.summary
            made.append((start, end, _CONTROL.sub("", text)))
    return made


def as_textgrid(timeline: Timeline, source: Path) -> bytes:
    """Praat's TextGrid: a tier of emotions for each speaker, and of words."""
    praat = praat_library()
    end = max(round(timeline.duration, 3), _LEAST)
    grid = praat.Textgrid(0, end)
    for name, items in tiers(timeline):
        grid.addTier(praat.IntervalTier(name, items, 0, end))
    with scratch_folder() as folder:
        file = folder / "x.TextGrid"
        grid.save(str(file), format="long_textgrid", includeBlankSpaces=True)
        return file.read_bytes()


def as_eaf(timeline: Timeline, source: Path) -> bytes:
    """ELAN's annotations, linked to the recording."""
    made = elan_library().Eaf(author="multimodal-ser")
    made.adocument["DATE"] = _DATE
    made.remove_tier("default")
    name = one_line(display_name(timeline, source))
    made.add_linked_file(name, relpath=name, mimetype="audio/*")
    for name, items in tiers(timeline):
        made.add_tier(name, part=name.rpartition(" ")[0] or None)
        for start, end, text in items:
            made.add_annotation(name, round(1000 * start), round(1000 * end), text)
    with scratch_folder() as folder:
        file = folder / "x.eaf"
        made.to_file(str(file))
        return file.read_bytes()


def as_label_studio(timeline: Timeline, source: Path) -> str:
    """A task of Label Studio with our segments as its predictions.

    Its labelling interface needs an `Audio` named audio and `Labels` named emotion; the file is
    named in `data.audio`, where Label Studio must be able to reach it.
    """
    channels = {one.name: one.channel or 0 for one in timeline.speakers}
    found = []
    for number, s in enumerate(timeline.segments):
        region = {"id": f"s{number}", "from_name": "emotion", "to_name": "audio", "type": "labels"}
        where = {"start": round(s.start, 3), "end": round(s.end, 3)}
        value = {**where, "channel": channels.get(s.speaker or "", 0), "labels": [s.label]}
        meta = {"meta": {"speaker": [s.speaker]}} if s.speaker else {}
        sure = {"score": round(s.confidence, 4)} if s.scale is None else {}
        found.append({**region, "value": value, **sure, **meta})
    prediction = {"model_version": timeline.model, "result": found}
    task = {"data": {"audio": display_name(timeline, source)}, "predictions": [prediction]}
    return json.dumps([task], ensure_ascii=False, indent=1) + "\n"


def as_rttm(timeline: Timeline, source: Path) -> str:
    """NIST's Rich Transcription Time Marks: one line per turn of a speaker.

    Programs match the lines of two files by the recording's name, which is without its ending.
    """
    place = PurePosixPath(display_name(timeline, source))
    whole = str(place.with_suffix("") if place.suffix.lower() in ENDINGS else place)
    name = "_".join(whole.split()) or "recording"
    channels = {one.name: (one.channel or 0) + 1 for one in timeline.speakers}
    found = [turn for turn in turns(timeline) if turn[1] - turn[0] >= _LEAST]
    words: dict[str, str] = {}  # RTTM separates by spaces, so a speaker's name has to be one word
    for *_, who in found:
        word = "_".join(who.split()) or "_"
        while who not in words and word in words.values():  # "a b" and "a_b" are two speakers
            word += "_"
        words.setdefault(who, word)
    return "".join(
        f"SPEAKER {name} {channels.get(who, 1)} {start:.3f} {end - start:.3f} <NA> <NA> "
        f"{words[who]} <NA> <NA>\n"
        for start, end, who in found
    )


def turns(timeline: Timeline) -> list[tuple[float, float, str]]:
    """Speaker turns (start, end, name): adjacent segments without a pause are one turn."""
    made: list[tuple[float, float, str]] = []
    last: dict[str, int] = {}
    for s in timeline.segments:
        who = s.speaker or ANYBODY
        if who in last and s.start <= made[last[who]][1]:
            made[last[who]] = (made[last[who]][0], s.end, who)
        else:
            last[who] = len(made)
            made.append((s.start, s.end, who))
    return made


def praat_library() -> Any:
    """The library that writes Praat's files.

    Raises:
        SerError: it is not installed.
    """
    return _library("praatio.textgrid", "praatio")


def elan_library() -> Any:
    """The same for ELAN's files."""
    return _library("pympi.Elan", "pympi-ling")


def _library(module: str, package: str) -> Any:
    why = f"choose other --formats, or install {package}, which writes this one"
    return import_extra(module, why, "annotations")
