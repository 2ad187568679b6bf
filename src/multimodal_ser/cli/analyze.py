"""Subcommand analyze: the emotions of long recordings, or of a microphone, over time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.predict import weights_of, without_channel
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.timeline import Point, Segment, Timeline
    from multimodal_ser.timeline.folder import AnalysisRecipe, Done
    from multimodal_ser.timeline.places import Place

WITHOUT_SOUND = ("json", "csv", "vtt", "srt", "audacity")


@app.command(name="analyze")
def analyze_command(
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
    speakers: str = "off",
    adapt: str = "auto",
    words: bool = False,
    words_model: str | None = None,
    language: str | None = None,
    microphone: bool = False,
    seconds: float | None = None,
    source: tuple[str, ...] = (),
    device: str = "cpu",
    engine: Literal["local", "ray"] = "local",
) -> int:
    """Finds the emotions of recordings of any length over time, and writes them in many formats.

    Of several recordings, or a folder, the tree is kept, and index.csv, a table of all segments
    (Parquet with the extra parquet, else CSV) and summary.html stand above it. Rerun to resume:
    what is done is not done again, unless the recording, the model or an option changed.
    Recordings that cannot be read are told, the others are kept, and the exit code is then 1.

    Args:
        files: recordings, folders, wildcards, or - for standard input.
        model: as for `ser predict`.
        out: folder to write to; timelines where not given.
        formats: of json, csv, vtt, srt, audacity, png, svg, html, labelstudio, rttm, and, with the
            extra annotations, textgrid (Praat) and eaf (ELAN); none only prints.
        window: seconds that are predicted at a time; shorter speech goes whole.
        hop: seconds from one window to the next.
        smoothing: seconds, the time constant of the smoothing; 0 for none.
        vad: how speech is found: silero, energy, or none where all is speech; auto is silero.
        channels: mix for the mean of all; each, or numbers such as 0,1, for a timeline of each on
            one clock; auto takes each where they clearly have different speakers, and tells it.
        names: of these channels, or of the speakers as they begin, such as agent,customer.
        speakers: tell speakers on one channel apart: auto, their number, pyannote or pyannote:2
            (extra pyannote), or an .rttm file of another program (docs/conversations.md).
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
        engine: local, or ray for a cluster (docs/cluster.md); the files are the same.
    """
    from multimodal_ser.timeline.writers import checked_formats

    chosen = checked_formats(formats)
    if microphone and files:
        raise SerError("--microphone listens instead of reading files; leave one of them out")
    settings: dict[str, Any] = {"window": window, "hop": hop, "smoothing": smoothing, "vad": vad}
    given = tuple(name.strip() for name in names.split(",") if name.strip())
    lanes: dict[str, Any] = {"channels": channels, "names": given, "adapt": adapt == "auto"}
    told = repr((settings, channels, names, speakers, adapt, words, words_model, language))
    if words or words_model or language:
        from multimodal_ser.timeline import Recogniser

        settings["words"] = Recogniser(words_model, language=language)
    predictor = _predictor(model, source, device)
    lanes["speakers"], lanes["count"] = _diariser(speakers, vad, device)
    if microphone or adapt != "auto":
        predictor = without_channel(predictor, "off" if adapt == "auto" else adapt, ())
    if microphone:
        kept = [name for name in chosen if name in WITHOUT_SOUND] if out else []
        _listen(predictor, settings, seconds, out or Path(), kept)
        return 0
    from multimodal_ser.timeline.folder import AnalysisRecipe

    recipe = AnalysisRecipe(predictor, {**settings, **lanes}, chosen, told)
    with _recordings(files) as found:
        together = bool(chosen) and (len(found) > 1 or Path(files[0]).is_dir())
        return _files(found, recipe, out or Path("timelines"), engine, together=together)


def _diariser(speakers: str, vad: Vad, device: str) -> tuple[Any, int | None]:
    if speakers == "off":
        return None, None
    from multimodal_ser.timeline.speakers import diariser_of

    return diariser_of(speakers, vad, device)


@contextmanager
def _recordings(files: Sequence[str]) -> Iterator[list[Place]]:
    """The recordings; standard input becomes a file for as long as it is needed."""
    from multimodal_ser.common.files import scratch_folder
    from multimodal_ser.predict.sources import STDIN
    from multimodal_ser.timeline.places import places

    found = places(files)
    with scratch_folder() as folder:
        for number, place in enumerate(found):
            if place.path == STDIN:
                heard = folder / "stdin"
                with heard.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
                found[number] = place._replace(path=str(heard))
        yield found


def _predictor(model: str, source: Sequence[str], device: str) -> Any:
    from multimodal_ser.predict import load

    predictor = load(model, device=device, weights=weights_of(source))
    if "audio" not in predictor.modalities:
        raise SerError(f"{predictor.name} reads words alone; choose a model that hears sound")
    return predictor


def _files(
    found: Sequence[Place], recipe: AnalysisRecipe, out: Path, engine: str, *, together: bool
) -> int:
    """Analyses recordings one after another; `together` writes index, segments and summary too."""
    from multimodal_ser.timeline.folder import Folder, analyzed, kept

    failed = 0
    if together:
        folder = Folder(out, recipe, found)
        if past := len(found) - len(folder.waiting):
            sys.stderr.write(f"{past} of {len(found)} recordings are done already\n")
        for done in folder.run(engine, _progress):
            failed += _tell(done, out)
        for file in folder.finish():
            say(f"wrote {file}")
    else:
        for place in found:
            with _progress(place) as on_progress:
                done = analyzed(recipe, place, on_progress)
            kept(done, out)
            failed += _tell(done, out)
    if failed:
        sys.stderr.write(f"{failed} of {len(found)} recordings failed\n")
    return 1 if failed else 0


def _tell(done: Done, out: Path) -> int:
    """Shows what came of a recording; 1 where it failed."""
    if done.timeline is None:
        sys.stderr.write(f"failed: {done.place.path}: {done.reason}\n")
        return 1
    _show(done.place.path, done.timeline)
    if done.files:
        say(f"  wrote {out / done.place.name}: {' '.join(done.files)}")
    return 0


@contextmanager
def _progress(place: Place) -> Iterator[Callable[[float, float | None], None] | None]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(place.source.replace("[", r"\["), total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _show(place: str, timeline: Timeline) -> None:
    from multimodal_ser.timeline.writers import headline, speaker_lines, table

    say(f"{place}: {headline(timeline)}")
    for line in (*timeline.notes, *speaker_lines(timeline)):
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
    from multimodal_ser.timeline.writers import table, write_files

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
    for file in write_files(timeline, "microphone", out, formats) if formats else ():
        say(f"  wrote {file}")


def _heard(item: Point | Segment) -> int:
    """Prints one running estimate or final segment; 1 for the latter."""
    from multimodal_ser.timeline import Segment
    from multimodal_ser.timeline.writers import greatest, table

    if isinstance(item, Segment):
        say(table([item]))
        return 1
    say(f"    … {item.end:.1f} s  {greatest(item.probabilities, 3, item.scale)}")
    return 0
