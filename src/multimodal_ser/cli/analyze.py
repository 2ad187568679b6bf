"""Subcommand analyze: the emotions of long recordings, or of a microphone, over time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.predict import Vad, weights, without_channel
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.timeline import Point, Segment, Timeline

WITHOUT_SOUND = ("json", "csv", "vtt", "srt", "audacity")


@app.command
def analyze(
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    model: str = "starter",
    out: Path | None = None,
    formats: str = "json,csv,vtt,srt,audacity,png,html",
    window: float = 3.0,
    hop: float = 1.0,
    smoothing: float = 1.0,
    vad: Vad = "auto",
    channels: str = "auto",
    names: str = "",
    adapt: str = "auto",
    words: bool = False,
    words_model: str | None = None,
    language: str | None = None,
    microphone: bool = False,
    seconds: float | None = None,
    source: tuple[str, ...] = (),
    device: str = "cpu",
) -> int:
    """Finds the emotions of recordings of any length over time, and writes them in many formats.

    Recordings that cannot be read are listed at the end, the others are kept, and the exit code
    is then 1.

    Args:
        files: recordings, folders or wildcards.
        model: as for `ser predict`.
        out: folder to write to; timelines where not given.
        formats: of json, csv, vtt, srt, audacity, png, html; none only prints.
        window: seconds that are predicted at a time; shorter speech goes whole.
        hop: seconds from one window to the next.
        smoothing: seconds, the time constant of the smoothing; 0 for none.
        vad: how speech is found: silero, energy, or none where all is speech; auto is silero.
        channels: mix for the mean of all; each, or numbers such as 0,1, for a timeline of each on
            one clock; auto takes each where they clearly have different speakers, and tells it.
        names: of these channels in order, such as agent,customer.
        adapt: auto takes out what half a minute of speech or more has in common that is no emotion,
            recording by recording and channel by channel; off does not; or a file of `ser adapt`.
        words: recognise the words (extra asr; English, with the extra offline, where no other
            model is given).
        words_model: a whisper model's folder in CTranslate2's layout, size or hub id.
        language: of the words, such as de; a model of many languages finds it out where not given.
        microphone: listen instead (extra live) until Ctrl-C; written only where --out is given.
        seconds: how long to listen.
        source: where encoders' weights are, as for `ser predict`.
        device: where torch computes, such as cpu or cuda.
    """
    from multimodal_ser.timeline.writers import checked_formats

    chosen = checked_formats(formats)
    if microphone and files:
        raise SerError("--microphone listens instead of reading files; leave one of them out")
    found = [] if microphone else _recordings(files)
    settings: dict[str, Any] = {"window": window, "hop": hop, "smoothing": smoothing, "vad": vad}
    given = tuple(name.strip() for name in names.split(",") if name.strip())
    lanes: dict[str, Any] = {"channels": channels, "names": given, "adapt": adapt == "auto"}
    if words or words_model or language:
        from multimodal_ser.timeline import Recogniser

        settings["words"] = Recogniser(words_model, language=language)
    predictor = _predictor(model, source, device)
    if microphone or adapt != "auto":
        predictor = without_channel(predictor, "off" if adapt == "auto" else adapt, ())
    if microphone:
        kept = [name for name in chosen if name in WITHOUT_SOUND] if out else []
        _listen(predictor, settings, seconds, out or Path(), kept)
        return 0
    return _files(found, predictor, {**settings, **lanes}, out or Path("timelines"), chosen)


def _recordings(files: Sequence[str]) -> list[str]:
    from multimodal_ser.predict.sources import STDIN, find_recordings

    if STDIN in files:
        raise SerError("standard input has no name to write beside; save it to a file first")
    return find_recordings(files)


def _predictor(model: str, source: Sequence[str], device: str) -> Any:
    from multimodal_ser.predict import load

    predictor = load(model, device=device, weights=weights(source))
    if "audio" not in predictor.sides:
        raise SerError(f"{predictor.name} reads words alone; choose a model that hears sound")
    return predictor


def _files(
    found: Sequence[str],
    predictor: Any,
    settings: dict[str, Any],
    out: Path,
    formats: Sequence[str],
) -> int:
    from multimodal_ser.timeline import analyze as analyze_recording
    from multimodal_ser.timeline.writers import write

    failures = []
    for place, name in _named(found).items():
        try:
            with _progress(place) as on_progress:
                timeline = analyze_recording(place, predictor, on_progress=on_progress, **settings)
            files = write(timeline, place, out, formats, name=name)
        except (SerError, OSError) as error:
            failures.append(f"{place}: {str(error).removeprefix(f'{Path(place).name}: ')}")
            continue
        _show(place, timeline)
        if files:
            say(f"  wrote {out / name}: {' '.join(file.name[len(name) :] for file in files)}")
    for line in failures:
        sys.stderr.write(f"failed: {line}\n")
    if failures:
        sys.stderr.write(f"{len(failures)} of {len(found)} recordings failed\n")
    return 1 if failures else 0


def _named(found: Sequence[str]) -> dict[str, str]:
    """The names to write under; equal ones keep their ending, then get numbers.

    >>> _named(["a/x.wav", "b/x.mp3", "c/x.mp3", "y.wav"])
    {'a/x.wav': 'x.wav', 'b/x.mp3': 'x.mp3', 'c/x.mp3': 'x.mp3-2', 'y.wav': 'y'}
    """
    stems = Counter(Path(place).stem for place in found)
    names: dict[str, str] = {}
    for place in found:
        path = Path(place)
        name = first = path.stem if stems[path.stem] == 1 else path.name
        number = 1
        while name in names.values():
            number += 1
            name = f"{first}-{number}"
        names[place] = name
    return names


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float, float | None], None] | None]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(name).name.replace("[", r"\["), total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _show(place: str, timeline: Timeline) -> None:
    from multimodal_ser.timeline.writers import by_speaker, headline, table

    say(f"{place}: {headline(timeline)}")
    for line in (*timeline.notes, *by_speaker(timeline)):
        say(f"  {line}")
    if timeline.segments:
        say(table(timeline.segments))
    if timeline.doubt:
        sys.stderr.write(f"{place}: {timeline.doubt}\n")


def _listen(
    predictor: Any, settings: dict[str, Any], seconds: float | None, out: Path, formats: list[str]
) -> None:
    """Prints what is heard as it comes; Ctrl-C ends it."""
    from multimodal_ser.timeline import Stream
    from multimodal_ser.timeline.live import microphone
    from multimodal_ser.timeline.writers import table, write

    stream, said = Stream(predictor, **settings), 0
    try:
        sound = microphone(seconds=seconds)
        for number, chunk in enumerate(sound):
            if not number:
                sys.stderr.write("listening; Ctrl-C ends it\n")
            for item in stream.push(chunk):
                said += _heard(item)
    except KeyboardInterrupt:
        pass
    timeline = stream.finish()
    if timeline.segments[said:]:
        say(table(timeline.segments[said:]))
    _show("microphone", timeline)
    for file in write(timeline, "microphone", out, formats) if formats else ():
        say(f"  wrote {file}")


def _heard(item: Point | Segment) -> int:
    """Prints one running estimate or final segment; 1 for the latter."""
    from multimodal_ser.timeline import Segment
    from multimodal_ser.timeline.writers import shares, table

    if isinstance(item, Segment):
        say(table([item]))
        return 1
    say(f"    … {item.end:.1f} s  {shares(item.probabilities, 3)}")
    return 0
