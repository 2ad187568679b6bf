"""Subcommand predict: the emotion of recordings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, TypeAlias, cast

import tyro

from multimodal_ser.cli.app import MOST_SHOWN, app
from multimodal_ser.common.files import locked, one_line, scratch_folder, written_aside
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import SerError, counted, refuse_twice

if TYPE_CHECKING:
    from multimodal_ser.predict import Channel, Prediction, Predictor, Recording
    from multimodal_ser.predict.resumable import ChunkSettings, RecordingChunk

_ONE_SIDED = 0.6  # share of one class among recordings that is doubtful, by channel or by content
Format = Literal["table", "json", "jsonl", "csv"]
Advance: TypeAlias = Callable[[int, float], None]


@app.command(name="predict")
def predict_command(
    files: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    model: str = "starter",
    text: tuple[str, ...] = (),
    words: bool = False,
    words_model: str | None = None,
    language: str | None = None,
    format: Format | None = None,
    out: Path | None = None,
    source: tuple[str, ...] = (),
    threshold: float | None = None,
    adapt: str = "auto",
    vad: Vad = "auto",
    device: str = "cpu",
    engine: Literal["local", "ray"] = "local",
) -> int:
    """Predicts the emotion of recordings: label, and probabilities of all classes.

    A recording without speech is labelled `no speech`, with the reason; one that cannot be read
    `failed`, all others are predicted, and the exit code is then 1. With --out,
    rerun to resume: finished predictions are kept next to it until all are done. For recordings
    with several emotions, see `ser analyze`.

    Args:
        files: recordings, folders, wildcards, or - for standard input.
        model: starter, emotion2vec-plus-seed, -base or -large, hub:owner/name, a run folder, a
            saved model's folder, a fine-tuned .safetensors file, or an .onnx file of `ser export`.
        text: the words, one text per file, for models that use text.
        words: recognise the words instead (extra asr; with the extra offline, an English model by
            default).
        words_model: a Whisper model, as for `ser analyze`.
        language: language of the words, such as de; by default, a multilingual model detects it.
        format: a table for people, or json, jsonl, csv; default: as --out ends, and a table for
            standard output, .txt or no ending.
        out: file to write; default, and -: standard output.
        source: where the encoders' weights are, folder or hub id; ENCODER=PLACE for several.
        threshold: confidence below which the label is `uncertain`; default: the model's own.
        adapt: auto removes the channel effect (line, microphone, room) estimated from the
            recordings, if there are ten or more; off predicts each by itself; or a file of `ser
            adapt`.
        vad: how speech is detected: silero, energy, or none if everything is speech; auto is
            silero.
        device: device for torch, such as cpu or cuda.
        engine: local, or ray for a cluster (docs/cluster.md).
    """
    from multimodal_ser.predict import load
    from multimodal_ser.predict.backend import missing_words
    from multimodal_ser.predict.resumable import ChunkSettings, recording_chunks
    from multimodal_ser.predict.sources import find_recordings, refuse_recording
    from multimodal_ser.predict.writing import FORMATS

    if threshold is not None and not 0 <= threshold <= 1:
        raise SerError(f"--threshold {threshold:g}; allowed: a confidence from 0 to 1, such as 0.8")
    found = find_recordings(files)
    out = None if out == Path("-") else out
    refuse_recording(out, found)
    if format is None:
        format = _format_of(out)
    predictor = load(model, device=device, weights=weights_of(source))
    if threshold is not None:
        predictor.threshold = threshold
    predictor.vad = vad
    wanted = {"--words": words, "--words-model": words_model, "--language": language}
    recognise_by = [option for option, value in wanted.items() if value]
    _check_text(predictor, found, text, recognise_by)
    predictor, known = _adapted(predictor, adapt, found)
    words = bool(recognise_by)
    settings = ChunkSettings(predictor, described=repr((vad, words, words_model, language, device)))
    if words:
        from multimodal_ser.timeline.words import Recogniser, RecordingWords

        recogniser = Recogniser(words_model, language=language, device=device)
        # another model may lie in the same folder by now
        described = settings.described + recogniser.content
        settings = replace(settings, words=RecordingWords(recogniser), described=described)
    failures: list[str] = []
    wordless: list[str] = []
    # JSON lines and CSV appear line by line on the terminal: a progress bar would be drawn between
    # them
    streams = format in ("jsonl", "csv") and out is None and sys.stdout.isatty()
    show = len(found) > 1 and not streams and sys.stderr.isatty()
    with _journal(out, engine) as journal, _meter(len(found), show) as advance:
        chunks = recording_chunks(found, text, known)
        outcomes = _outcomes(settings, chunks, engine, journal, advance)
        with _output(out) as file:
            FORMATS[format](_named(found, outcomes, failures, wordless), predictor.labels, file)
        # after failures the journal stays, so that a rerun predicts only their chunks again
        if journal and not failures:
            journal.unlink(missing_ok=True)
    tell_channel(predictor, adapt)
    how = "--text gives them, and --words recognises them"
    if note := missing_words(predictor, len(wordless), len(found), how):
        sys.stderr.write(f"{note}\n")
    return failed(failures, len(found))


def _format_of(out: Path | None) -> Format:
    """The format that an output file's ending stands for; a table without one, and for .txt.

    Raises:
        SerError: no format has this ending; a program that goes by it could not read the file.
    """
    from multimodal_ser.predict.writing import FORMATS

    ending = "" if out is None else out.suffix.lower().removeprefix(".")
    if ending in FORMATS:
        return cast(Format, ending)
    if ending in ("", "txt"):
        return "table"
    raise SerError(
        f"--out {out}: nothing is written as .{ending}; allowed: .csv, .json, .jsonl, or .txt for "
        "a table; --format chooses one of them whatever the name"
    )


def _adapted(
    predictor: Predictor, adapt: str, found: Sequence[str]
) -> tuple[Predictor, dict[Recording, Recording]]:
    """The predictor without the channel, and the recordings that were decoded to estimate it.

    The estimate needs all recordings before the first prediction, so those decoded are reused.
    """
    from multimodal_ser.predict.sources import STDIN
    from multimodal_ser.timeline.adapting import decoded

    names = [name for name in found if name != STDIN]
    known = decoded(names) if adapt == "auto" and predictor.adaptable else {}
    return without_channel(predictor, adapt, [known.get(name, name) for name in names]), known


def failed(failures: Sequence[str], total: int) -> int:
    """Lists failed recordings, in a file all of them; returns 1 if there are any."""
    shown = failures[:MOST_SHOWN] if sys.stderr.isatty() else failures
    for line in shown:
        sys.stderr.write(f"failed: {one_line(line)}\n")
    if len(failures) > len(shown):
        more = len(failures) - len(shown)
        sys.stderr.write(f"… and {more} more; with 2> failed.txt all are listed in that file\n")
    if failures:
        sys.stderr.write(f"{len(failures)} of {total} recordings failed\n")
    return 1 if failures else 0


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    with (
        written_aside(out) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


def without_channel(predictor: Predictor, adapt: str, names: Sequence[Recording]) -> Predictor:
    """Returns the predictor that removes a channel: of the recordings, of a file, or none."""
    if adapt == "off":
        return predictor
    if adapt != "auto":
        from multimodal_ser.predict import Channel

        return predictor.adapted(Channel.read(adapt))
    from multimodal_ser.timeline.adapting import adapted_to

    return adapted_to(names, predictor, predictor.vad)


def tell_channel(predictor: Predictor, adapt: str) -> None:
    """Reports on standard error that a channel was removed, and when that may be a mistake."""
    channel = predictor.channel
    if channel is None or tell_unremoved(channel):
        return
    where = "the recordings'" if adapt == "auto" else f"{adapt}'s"
    sys.stderr.write(
        f"adapted to {where} channel, known from {shown(channel)}; --adapt off predicts without "
        "it\n"
    )
    if channel.mostly and channel.mostly[1] >= _ONE_SIDED:
        label, share = channel.mostly
        sys.stderr.write(
            f"without it {share:.0%} of them would be {label}, which was attributed to the "
            f"channel; if most of them really are {label}, use --adapt off\n"
        )


def tell_unremoved(channel: Channel | None) -> bool:
    """Whether a channel is given that changes nothing; if so, says it on standard error."""
    from multimodal_ser.predict.predictor import removed_count

    if channel is None or removed_count(channel) is not None:
        return False
    are = "is" if channel.count == 1 else "are"
    sys.stderr.write(
        f"no channel is removed: {shown(channel)} {are} as near to the training data as its own "
        "recordings\n"
    )
    return True


def shown(channel: Channel) -> str:
    """What a channel was estimated from."""
    return counted(channel.count, "recording or piece", "recordings or pieces") + " of 3 s"


def weights_of(given: Sequence[str]) -> str | dict[str, str] | None:
    """Parses where the encoders' weights are: one place for all, or ENCODER=PLACE per encoder.

    >>> weights_of(["minilm=/models/minilm", "bert=/models/bert"])
    {'minilm': '/models/minilm', 'bert': '/models/bert'}
    """
    refuse_twice("--source", given)
    named = [item.partition("=") for item in given]
    if len(given) == 1 and not named[0][1]:
        return given[0]
    if wrong := [item for item, (_, equals, _) in zip(given, named, strict=True) if not equals]:
        raise SerError(f"--source {wrong[0]}: several sources are given as ENCODER=PLACE")
    return {name: place for name, _, place in named} or None


def _check_text(
    predictor: Predictor, found: Sequence[str], text: Sequence[str], recognise_by: Sequence[str]
) -> None:
    """Raises SerError if words are given or to be recognised that the model cannot use."""
    if not (text or recognise_by):
        return
    options = " and ".join(recognise_by) or "--text"
    if text and recognise_by:
        raise SerError(f"--text gives the words and {options} recognises them; choose one")
    if "text" not in predictor.modalities:
        raise SerError(f"{predictor.name} uses audio only; leave {options} out")
    if text and len(text) != len(found):
        raise SerError(
            f"--text: {counted(len(text), 'text')} for {counted(len(found), 'recording')}; give as "
            "many"
        )


def _outcomes(
    settings: ChunkSettings, chunks: Iterator[RecordingChunk], engine: str, journal: Path | None,
    advance: Advance,
) -> Iterator[Prediction | SerError]:  # fmt: skip
    """Yields every prediction in order; with a journal, only after all are done."""
    from multimodal_ser.predict.resumable import ResumablePredictions, predict_chunk

    kept = ResumablePredictions(journal, settings) if journal else None
    alone = (predict_chunk(settings, chunk) for chunk in chunks)
    for one in kept.run(chunks, engine) if kept else alone:
        for line in one.notes:
            sys.stderr.write(f"{one_line(line)}\n")
        good = [outcome for outcome in one.outcomes if not isinstance(outcome, SerError)]
        advance(len(one.outcomes), sum(outcome.end - outcome.start for outcome in good))
        if kept is None:
            yield from one.outcomes
    if kept is not None:
        yield from kept.outcomes()


@contextmanager
def _journal(out: Path | None, engine: str) -> Iterator[Path | None]:
    """Yields the journal of finished predictions: next to the output file, hidden."""
    if out is not None and (out.is_file() or not out.exists()):
        with locked(out):
            yield out.with_name(f".{out.name}.answered.jsonl")
    # tasks finish in any order; the journal restores the order of the recordings
    elif engine == "ray":
        with scratch_folder() as folder:
            yield folder / "answered.jsonl"
    else:
        yield None


def _named(
    found: Sequence[str],
    outcomes: Iterator[Prediction | SerError],
    failures: list[str],
    wordless: list[str],
) -> Iterator[tuple[str, Prediction | SerError]]:
    """Yields predictions, or reasons of failures, with their names; fills the last two lists."""
    for name, outcome in zip(found, outcomes, strict=True):
        if isinstance(outcome, SerError):
            outcome = SerError(str(outcome).removeprefix(f"{Path(name).name}: "))
            failures.append(f"{name}: {outcome}")
        elif outcome.wordless:
            wordless.append(name)
        yield name, outcome


@contextmanager
def _meter(total: int, show: bool) -> Iterator[Advance]:
    """Yields the function that advances a progress bar; without a bar, its import is skipped."""
    if not show:
        yield lambda count, seconds: None
        return
    from multimodal_ser.features.parts import progress_bar

    with progress_bar("predict", total, 0, show) as bar:
        yield bar.advance
