"""Timeline → files: tables, subtitles, labels, annotations, pictures and pages."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

from multimodal_ser.common.files import write_file
from multimodal_ser.errors import SerError, one_of
from multimodal_ser.predict.prediction import label_colours, on_scale
from multimodal_ser.timeline.annotations import (
    as_eaf,
    as_label_studio,
    as_rttm,
    as_textgrid,
    elan_library,
    praat_library,
)
from multimodal_ser.timeline.track import (
    Scale,
    Segment,
    Timeline,
    attributes_text,
    clock,
    display_name,
)


def write_files(
    timeline: Timeline,
    source: str | Path,
    folder: str | Path,
    formats: Sequence[str],
    *,
    name: str | None = None,
) -> list[Path]:
    """Writes the timeline of a recording in several formats; returns the files, in their order.

    Args:
        timeline: from `analyze`.
        source: the recording, whose sound the picture and the page show.
        folder: output folder; created if it does not exist.
        formats: keys of `WRITERS`.
        name: of the files without ending; by default the recording's.

    Raises:
        SerError: a format is unknown, or the recording cannot be read any more.
    """
    source, folder = Path(source), Path(folder)
    files = []
    called = folder / (source.stem if name is None else name)
    for ending, content in rendered(timeline, source, checked_formats(formats), called.parent):
        file = called.parent / (called.name + ending)
        write_file(file, content)
        files.append(file)
    return files


def rendered(
    timeline: Timeline, source: Path, formats: Sequence[str], folder: Path | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yields the ending and the content of each file of a recording.

    Args:
        timeline: from `analyze`.
        source: the recording.
        formats: keys of `WRITERS`.
        folder: of the files, if the recording will stay where it is.
    """
    for kind in formats:
        writer = WRITERS[kind]
        make = partial(writer.make, folder=folder) if writer.placed else writer.make
        content = make(timeline, source)
        yield (
            writer.ending,
            content if isinstance(content, bytes) else content.encode("utf-8", "replace"),
        )


def checked_formats(given: str | Sequence[str]) -> list[str]:
    """Names of formats, each once, from a list or a comma-separated string; ``none`` for none.

    Raises:
        SerError: a format is unknown, or needs an extra that is not installed.

    >>> checked_formats("json, vtt"), checked_formats("none")
    (['json', 'vtt'], [])
    """
    names = given.split(",") if isinstance(given, str) else given
    chosen = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    chosen = [] if chosen == ["none"] else chosen
    for name in chosen:
        if name not in WRITERS:
            raise SerError(one_of("format", name, WRITERS))
        if needs := WRITERS[name].needs:
            needs()
    return chosen


def _as_json(timeline: Timeline, source: Path) -> str:
    """Everything that is known, with the recording's name, as JSON."""
    content = {"source": display_name(timeline, source), **timeline.as_dict()}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _as_csv(timeline: Timeline, source: Path) -> str:
    """One row per segment, with a column for each class or attribute."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    sure = ["confidence"] if timeline.scale is None else []
    rated = () if timeline.attributes is None else timeline.attributes.labels
    rows.writerow(["start", "end", "speaker", "label", *sure, *timeline.labels, *rated, "text"])
    for s in timeline.segments:
        values = s.probabilities if s.scale is None else on_scale(s.probabilities, s.scale)
        numbers = [*([s.confidence] if sure else []), *(values[name] for name in timeline.labels)]
        numbers += [s.attributes[name] for name in rated]
        times = [f"{s.start:.3f}", f"{s.end:.3f}"]
        rows.writerow([*times, s.speaker, s.label, *(f"{one:.4f}" for one in numbers), s.text])
    return file.getvalue()


def _as_vtt(timeline: Timeline, source: Path) -> str:
    """WebVTT subtitles; each emotion is a class with its colour."""
    names = sorted({segment.label for segment in timeline.segments})
    hues = label_colours(timeline.labels, timeline.scale)
    styles = "".join(
        f"STYLE\n::cue(.{_class(name)}) {{ color: {hues[name][1]}; }}\n\n" for name in names
    )
    cues = (
        f"{number}\n{_stamp(s.start, '.')} --> {_stamp(s.end, '.')}\n"
        f"{_voice(s)}<c.{_class(s.label)}>{_cue(s.summary)}</c>{_words(s, _cue)}\n"
        for number, s in enumerate(timeline.segments, 1)
    )
    return "WEBVTT\n\n" + styles + "\n".join(cues)


def _as_srt(timeline: Timeline, source: Path) -> str:
    """SubRip subtitles, with colours in the form that most players understand."""
    hues = label_colours(timeline.labels, timeline.scale)
    cues = (
        f"{number}\n{_stamp(s.start, ',')} --> {_stamp(s.end, ',')}\n"
        f'<font color="{hues[s.label][1]}">{_srt(_who(s) + s.summary)}</font>'
        f"{_words(s, _srt)}\n"
        for number, s in enumerate(timeline.segments, 1)
    )
    return "\n".join(cues)


def _as_audacity(timeline: Timeline, source: Path) -> str:
    """Audacity's label track: start, end and label, separated by tabs."""
    texts = (
        ": ".join([_who(s) + s.summary, *([s.text] if s.text else [])]) for s in timeline.segments
    )
    return "".join(
        f"{s.start:.6f}\t{s.end:.6f}\t{_line(words)}\n"
        for s, words in zip(timeline.segments, texts, strict=True)
    )


def _as_picture(kind: str, timeline: Timeline, source: Path) -> bytes:
    """A picture, ``png`` or ``svg``: waveform, segments, probabilities or attributes over time."""
    from multimodal_ser.timeline.page import peaks
    from multimodal_ser.timeline.picture import draw

    return draw(timeline, peaks(source), display_name(timeline, source), kind)


def as_html(timeline: Timeline, source: Path, folder: Path | None = None) -> str:
    """A page that plays the recording, see `page`."""
    from multimodal_ser.timeline.page import timeline_page

    return timeline_page(timeline, source, folder)


class Writer(NamedTuple):
    """A format.

    Attributes:
        ending: of its files.
        make: timeline and recording → the content.
        placed: whether `make` also takes ``folder``, where the file will be, to link the recording.
        needs: imports the library of an extra, so that its lack is told before the work.
    """

    ending: str
    make: Callable[..., str | bytes]
    placed: bool = False
    needs: Callable[[], object] | None = None


WRITERS: dict[str, Writer] = {
    "json": Writer(".json", _as_json),
    "csv": Writer(".csv", _as_csv),
    "vtt": Writer(".vtt", _as_vtt),
    "srt": Writer(".srt", _as_srt),
    "audacity": Writer(".labels.txt", _as_audacity),
    "png": Writer(".png", partial(_as_picture, "png")),
    "svg": Writer(".svg", partial(_as_picture, "svg")),
    "html": Writer(".html", as_html, placed=True),
    "textgrid": Writer(".TextGrid", as_textgrid, needs=praat_library),
    "eaf": Writer(".eaf", as_eaf, needs=elan_library),
    "labelstudio": Writer(".labelstudio.json", as_label_studio),
    "rttm": Writer(".rttm", as_rttm),
}


def table(segments: Iterable[Segment]) -> str:
    """The segments as lines of text: times, label, confidence or attributes, words.

    >>> print(table([Segment(0.0, 61.5, "anger", 0.75, {}, "so what")]))
      0:00.0 –   1:01.5  anger          75 %  so what
    """
    return "\n".join(
        f"{_minutes(s.start)} – {_minutes(s.end)}  {_who(s)}"
        f"{s.summary if s.scale else f'{s.label:12} {100 * s.confidence:4.0f} %'}  "
        f"{_line(s.text or '')}".rstrip()
        for s in segments
    )


def headline(timeline: Timeline) -> str:
    """Length, speech and the overall probabilities or attributes, in one line."""
    top = greatest(timeline.overall, timeline.scale) if timeline.overall else "no speech found"
    if timeline.attributes and timeline.attributes.overall:
        top += f"; {greatest(timeline.attributes.overall, timeline.attributes.scale)}"
    adapted = "" if timeline.adapted is None else f"; adapted to {timeline.adapted} pieces"
    language = "" if timeline.language is None else f"; words in {timeline.language}"
    far = "" if timeline.distance is None else f"; distance {timeline.distance:.1f}"
    length = f"{clock(timeline.duration)}, speech {clock(timeline.spoken)}"
    return f"{length}; {top}{far}{adapted}{language}"


def speaker_lines(timeline: Timeline) -> list[str]:
    """One line per speaker: name, seconds of speech, and overall probabilities or attributes."""
    return [
        f"{one.name}: speech {clock(one.seconds)}"
        + (f"; {greatest(one.overall, one.scale)}" if one.overall else "")
        + ("" if one.adapted is None else f"; adapted to {one.adapted} pieces")
        for one in timeline.speakers
    ]


def greatest(probabilities: dict[str, float], scale: Scale = None) -> str:
    """The three highest probabilities, or all attributes if there is a scale.

    >>> greatest({"anger": 0.2, "fear": 0.5, "neutral": 0.25, "other": 0.05})
    'fear 50 %, neutral 25 %, anger 20 %'
    """
    if scale is not None:
        return f"{attributes_text(probabilities, scale)} (of {scale[0]:g} to {scale[1]:g})"
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in ranked[:3])


def _minutes(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 600:3d}:{tenths % 600 / 10:04.1f}"


def _stamp(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{milli:03d}"


def _who(segment: Segment) -> str:
    return "" if segment.speaker is None else f"{_line(segment.speaker)}: "


def _voice(segment: Segment) -> str:
    """WebVTT's tag for who speaks."""
    return "" if segment.speaker is None else f"<v {_cue(segment.speaker)}>"


def _words(segment: Segment, safe: Callable[[str], str]) -> str:
    return "\n" + safe(_line(segment.text)) if segment.text else ""


def _class(label: str) -> str:
    """A label as a class of CSS, in any script; such a name does not begin with a digit."""
    name = re.sub(r"\W+", "-", label.lower()).strip("-") or "other"
    return f"class-{name}" if name[0].isdigit() else name


def _line(text: str) -> str:
    """The text on one line: line breaks, which would begin another cue or row, become spaces."""
    return " ".join(text.split())


def _cue(text: str) -> str:
    return escape(_line(text), quote=False)


def _srt(text: str) -> str:
    """Text for SubRip, which has no escapes: angle brackets are replaced by similar characters."""
    return _line(text).replace("<", "‹").replace(">", "›")
