"""Subcommand analyze: the emotions of long recordings, or of a microphone, over time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.predict import tell_unremoved, weights_of, without_channel
from multimodal_ser.common.files import locked, one_line, scratch_folder
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.timeline import Point, Segment, Timeline
    from multimodal_ser.timeline.folder import AnalysisRecipe, AnalysisResult
    from multimodal_ser.timeline.places import Place

_WAIT = 10.0  # seconds until another command has noted in the folder what it is writing
# formats that neither show the sound nor link the recording
_WITHOUT_SOUND = ("json", "csv", "vtt", "srt", "audacity", "textgrid", "rttm")


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
    """Predicts the emotions of recordings of any length over time and writes them in many formats.

    For several recordings, or a folder, the folder tree is kept, and the top folder gets index.csv,
    a table of all segments (Parquet with the extra parquet, else CSV) and summary.html. Rerun to
    resume: only recordings are analysed again whose content, model or options changed. Recordings
    that cannot be read are reported, all others are written, and the exit code is then 1.

    Args:
        files: recordings, folders, wildcards, or - for standard input.
        model: as for `ser predict`.
        out: folder to write to; default: timelines.
        formats: any of json, csv, vtt, srt, audacity, png, svg, html, labelstudio, rttm, and, with
            the extra annotations, textgrid (Praat) and eaf (ELAN); none only prints.
        window: seconds per prediction; shorter speech is predicted as a whole.
        hop: seconds from one window to the next.
        smoothing: time constant of the smoothing in seconds; 0 for none.
        vad: how speech is detected: silero, energy, or none if everything is speech; auto is
            silero.
        channels: mix for the mean of all; each, or numbers such as 0,1, for one timeline per
            channel on a common clock; auto uses each if the channels clearly have different
            speakers, and says so.
        names: names of these channels, or of the speakers in order of appearance, such as
            agent,customer.
        speakers: separate the speakers on one channel: auto, their number, pyannote or pyannote:2
            (extra pyannote), or another program's .rttm file (docs/conversations.md).
        adapt: auto removes the channel effect (line, microphone, room, voice) estimated from half a
            minute of speech or more, per recording and channel; off does not; or a file of
            `ser adapt`.
        words: recognise the words (extra asr; with the extra offline, an English model by default).
        words_model: a Whisper model: folder in CTranslate2 format, size or hub id.
        language: language of the words, such as de; by default, a multilingual model detects it.
        microphone: record from the microphone instead (extra live) until Ctrl-C; files are written
            only with --out, in formats that need no recording.
        seconds: how long to record.
        source: where the encoders' weights are, as for `ser predict`.
        device: device for torch, such as cpu or cuda.
        engine: local, or ray for a cluster (docs/cluster.md); both write the same files.
    """
    from multimodal_ser.timeline import Stream
    from multimodal_ser.timeline.lanes import channel_numbers
    from multimodal_ser.timeline.speakers import diariser_of, is_rttm
    from multimodal_ser.timeline.writers import checked_formats

    chosen = checked_formats(formats)
    if microphone:
        asked = {"--channels": channels != "auto", "--names": bool(names)}
        asked |= {"--speakers": speakers != "off", "--engine": engine != "local"}
        _check_microphone(files, asked)
    if seconds is not None and not (microphone and seconds > 0):
        raise SerError(f"--seconds {seconds:g} is how long --microphone records; allowed: above 0")
    settings: dict[str, Any] = {"window": window, "hop": hop, "smoothing": smoothing, "vad": vad}
    given = tuple(name.strip() for name in names.split(",") if name.strip())
    lanes: dict[str, Any] = {"channels": channels, "names": given, "adapt": adapt == "auto"}
    # a rerun resumes only where these options are the same; the recogniser itself has no stable
    # repr, so its options are listed and it is added to `settings` afterwards
    description = repr((settings, channels, names, speakers, adapt, words, words_model, language))
    if words or words_model or language:
        from multimodal_ser.timeline import Recogniser

        recognise = Recogniser(words_model, language=language, device=device)
        settings["words"] = recognise
        description += recognise.content  # another model may lie in the same folder by now
    predictor = _predictor(model, source, device)
    # what is wrong with the options is said once, and not for every recording
    Stream(predictor, **settings)
    channel_numbers(channels, given)
    lanes["speakers"], lanes["count"] = diariser_of(speakers, vad, device)
    if turns := is_rttm(speakers):
        # its name alone would not tell that its turns were corrected
        description += repr(lanes["speakers"](iter(()), None))
    # with "auto", the channel is estimated per recording while it is analysed, not here
    if microphone or adapt != "auto":
        predictor = without_channel(predictor, "off" if adapt == "auto" else adapt, ())
        tell_unremoved(predictor.channel)
    if microphone:
        kept = [name for name in chosen if name in _WITHOUT_SOUND] if out else []
        _listen(predictor, settings, seconds, out or Path(), kept)
        if others := [name for name in chosen if out and name not in kept]:
            sys.stderr.write(f"not written, since the sound was not kept: {', '.join(others)}\n")
        return 0
    from multimodal_ser.timeline.folder import AnalysisRecipe

    out = out or Path("timelines")
    recipe = AnalysisRecipe(predictor, {**settings, **lanes}, chosen, description, out.absolute())
    with _recordings(files) as found:
        if turns and len(found) > 1:
            raise SerError(
                f"--speakers {speakers}: has the turns of one recording, and {len(found)} are "
                "given; analyse each by itself, with its own file"
            )
        # index and summary belong to a folder's analysis, even if the folder holds a single
        # recording
        together = bool(chosen) and (len(found) > 1 or Path(files[0]).is_dir())
        return _files(found, recipe, out, engine, together=together)


def _check_microphone(files: Sequence[str], asked: Mapping[str, bool]) -> None:
    """Raises SerError for files, and for options of files that were asked for."""
    if files:
        raise SerError("--microphone records instead of reading files; leave one of them out")
    if given := [option for option, used in asked.items() if used]:
        raise SerError(
            f"{' and '.join(given)}: for recordings; --microphone has one channel, and does not "
            "separate speakers: leave it out, or record first and analyse the file"
        )


@contextmanager
def _recordings(files: Sequence[str]) -> Iterator[list[Place]]:
    """Yields the recordings; standard input is copied to a file that lasts for the block."""
    from multimodal_ser.predict.sources import STDIN
    from multimodal_ser.timeline.places import places

    found = places(files)
    with scratch_folder() as folder:
        for number, place in enumerate(found):
            if place.path == STDIN:
                copy = folder / "stdin"
                with copy.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
                found[number] = place._replace(path=str(copy))
        yield found


def _predictor(model: str, source: Sequence[str], device: str) -> Any:
    from multimodal_ser.predict import load

    predictor = load(model, device=device, weights=weights_of(source))
    if "audio" not in predictor.modalities:
        raise SerError(f"{predictor.name} uses text only; choose a model that uses audio")
    return predictor


def _files(
    found: Sequence[Place], recipe: AnalysisRecipe, out: Path, engine: str, *, together: bool
) -> int:
    """Analyses recordings one by one; `together` also writes index, segments and summary."""
    from multimodal_ser.timeline.folder import JOURNAL, Folder

    failed = 0
    if together:
        with locked(out / JOURNAL):
            folder = Folder(out, recipe, found)
            folder.refuse_other_tables()
            if past := len(found) - len(folder.waiting):
                sys.stderr.write(f"{past} of {len(found)} recordings are done already\n")
            for done in folder.run(engine, _progress):
                failed += _tell(done, out)
            for file in folder.finish():
                say(f"wrote {file}")
            if others := len(folder.others):
                sys.stderr.write(f"not in these tables: {others} of earlier commands\n")
    else:
        for place in found:
            failed += _tell(_alone(place, recipe, out), out)
    if failed:
        sys.stderr.write(f"{failed} of {len(found)} recordings failed\n")
    return 1 if failed else 0


def _alone(place: Place, recipe: AnalysisRecipe, out: Path) -> AnalysisResult:
    """Analyses a recording, and keeps others from writing to the folder only while it does."""
    from multimodal_ser.timeline.folder import JOURNAL, Folder, analyze_place

    if recipe.formats:
        with locked(out / JOURNAL, _WAIT):
            folder = Folder(out, recipe, [place])
            place = folder.found[0]
    with _progress(place) as on_progress:
        done = analyze_place(recipe, place, on_progress)
    if not recipe.formats:
        return done
    try:
        with locked(out / JOURNAL, _WAIT):
            return folder.keep(done)
    except SerError:
        if done.timeline is not None:  # what was found is shown, although it cannot be written
            _show(_shown_name(done), done.timeline)
        raise


def _tell(done: AnalysisResult, out: Path) -> int:
    """Prints a recording's result; returns 1 if it failed."""
    name = _shown_name(done)
    if done.timeline is None:
        sys.stderr.write(f"failed: {name}: {one_line(done.reason)}\n")
        return 1
    _show(name, done.timeline)
    if done.files:
        say(f"  wrote {one_line(str(out / done.place.name))}: {' '.join(done.files)}")
    return 0


def _shown_name(done: AnalysisResult) -> str:
    from multimodal_ser.timeline.places import STDIN_NAME

    # standard input is in a temporary file, whose path says nothing
    return STDIN_NAME if done.place.source == STDIN_NAME else one_line(done.place.path)


@contextmanager
def _progress(place: Place) -> Iterator[Callable[[float, float | None], None] | None]:
    """Shows a progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        # rich reads square brackets as markup: a file name such as "take[1].wav" has to be escaped
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
    """Prints results while recording; Ctrl-C ends it."""
    from multimodal_ser.timeline import Stream
    from multimodal_ser.timeline.live import microphone
    from multimodal_ser.timeline.writers import table, write_files

    stream, shown = Stream(predictor, **settings), 0
    try:
        for number, chunk in enumerate(microphone(seconds=seconds)):
            if not number:
                # after the first chunk: only then does the microphone work, and the user may speak
                sys.stderr.write("listening; Ctrl-C ends it\n")
            for item in stream.push(chunk):
                shown += _heard(item)
    except KeyboardInterrupt:
        pass
    timeline = stream.finish()
    if timeline.segments[shown:]:
        say(table(timeline.segments[shown:]))
    _show("microphone", timeline)
    for file in write_files(timeline, "microphone", out, formats) if formats else ():
        say(f"  wrote {file}")


def _heard(item: Point | Segment) -> int:
    """Prints one running estimate or final segment; returns 1 for a segment."""
    from multimodal_ser.timeline import Segment
    from multimodal_ser.timeline.writers import greatest, table

    if isinstance(item, Segment):
        say(table([item]))
        return 1
    say(f"    … {item.end:.1f} s  {greatest(item.probabilities, item.scale)}")
    return 0
