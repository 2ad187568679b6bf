"""Subcommands about corpora: list, manifest, check, split."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from multimodal_ser.cli.app import MOST_SHOWN, File, Name, app, say
from multimodal_ser.errors import SerError, counted, not_installed, one_of

if TYPE_CHECKING:
    from multimodal_ser.corpora import CorpusInfo
    from multimodal_ser.corpora.labels import ClassSet


@app.command(name="list")
def list_all_command(corpus: Annotated[str | None, tyro.conf.Positional] = None) -> None:
    """Lists all corpora, class sets, splits, encoders and models, including plug-ins.

    Args:
        corpus: show everything about this corpus instead: licence, citation, official split, traps.
    """
    if corpus is not None:
        _tell_corpus(corpus)
        return
    from multimodal_ser.corpora import CORPORA
    from multimodal_ser.corpora.labels import CLASS_SETS
    from multimodal_ser.encoders import ENCODERS
    from multimodal_ser.evaluation.metrics import METRICS, OF_PROBABILITIES
    from multimodal_ser.splits import SCHEMES

    sections = {
        "corpora": {
            name: f"{c.description} [{c.licence}]\n{'':21}{_who(c)}" for name, c in CORPORA.items()
        },
        "class sets": {name: _class_set(one) for name, one in CLASS_SETS.items()},
        "splits": {name: scheme.about for name, scheme in SCHEMES.items()},
        "encoders": {name: f"{e.modality}: {e.about}" for name, e in ENCODERS.items()},
        "scores of every table": _described({**METRICS, **OF_PROBABILITIES}),
    }
    _say_sections(sections)
    _say_sections(_trained())  # after the others, since importing PyTorch takes seconds


def _say_sections(sections: Mapping[str, Mapping[str, str]]) -> None:
    for title, lines in sections.items():
        say(f"\n{title}")
        for name, about in lines.items():
            say(f"  {name:18} {about}")


def _trained() -> dict[str, dict[str, str]]:
    """Returns the choices of training; without torch, how to install it."""
    try:
        from multimodal_ser.models.adapters import ADAPTERS
        from multimodal_ser.models.fusion import MODELS
        from multimodal_ser.training.baselines import BASELINES
        from multimodal_ser.training.losses import LOSSES
        from multimodal_ser.training.regressors import REGRESSORS
        from multimodal_ser.training.stacking import STACKED, Stacked
    except ModuleNotFoundError as error:
        if (missing := not_installed(error)) is None:
            raise
        return {"models, baselines, losses, adaptations": {"": str(missing)}}
    return {
        "models": _described({STACKED: Stacked, **MODELS}),
        "baselines, in every table": _described(BASELINES),
        "baselines of attributes": _described(REGRESSORS),
        "losses": {name: f"of {', '.join(loss.tasks)}" for name, loss in LOSSES.items()},
        "adaptations": _described(ADAPTERS),
    }


def _who(info: CorpusInfo) -> str:
    """Returns speakers, classes and citation in one line."""
    speakers = f"{info.speakers} speakers" if info.speakers else "speakers as it names them"
    return "; ".join(filter(None, [speakers, _classes(info), info.cited]))


def _classes(info: CorpusInfo) -> str:
    from multimodal_ser.corpora.labels import class_set

    return " ".join(class_set(info.labels).classes) if info.labels else "classes as it names them"


def _class_set(classes: ClassSet) -> str:
    """Returns the classes, and which words of a corpus are counted as one of them."""
    shown = " ".join(classes.classes)
    for corpus, words in classes.words.items():
        for name in classes.classes:
            merged = [word for word, meant in words.items() if meant == name]
            if len(merged) > 1:
                shown += f"; {' and '.join(merged)} of {corpus} are {name}"
    return shown


def _tell_corpus(name: str) -> None:
    from multimodal_ser.corpora import CORPORA

    if name not in CORPORA:
        raise SerError(one_of("corpus", name, CORPORA))
    info = CORPORA[name]
    scale = "{:g} to {:g}".format(*info.attribute_scale) if info.attribute_scale else ""
    facts = {
        "what": info.description,
        "classes": _classes(info),
        "arousal, valence, dominance": scale,
        "speakers": str(info.speakers or ""),
        "official split": info.parts or "none: split by speaker",
        "licence": info.licence,
        "from": info.url,
        "known traps": info.traps,
    }
    for key, value in facts.items():
        if value:
            say(f"{key}: {value}")
    say(info.citation)


def _described(registry: Mapping[str, object]) -> dict[str, str]:
    """Returns each entry's name and the first line of its docstring."""
    docs = {name: inspect.cleandoc(one.__doc__ or "") for name, one in registry.items()}
    return {name: text.split("\n")[0].removeprefix("Returns ") for name, text in docs.items()}


@app.command(name="manifest")
def manifest_command(
    corpus: Name,
    /,
    root: Path,
    out: Path,
    labels: str | None = None,
    audio_dir: str | None = None,
    votes: Literal["intended", "voice"] | None = None,
    name: str | None = None,
    columns: tuple[str, ...] = (),
    encoding: str | None = None,
    speaker: str | None = None,
    tables: str | None = None,
    part: Literal["train", "dev", "test"] | None = None,
) -> None:
    """Reads a corpus folder into a manifest: one JSON object per utterance.

    Args:
        corpus: one that `ser list` shows, such as iemocap; table is any CSV, TSV or JSON, folders
            a folder for each emotion.
        root: the corpus's folder; for table, the file.
        out: the manifest to write, such as emodb.jsonl.
        labels: class set to count by; default: the corpus's own.
        audio_dir: CREMA-D: the folder of its recordings (AudioWAV); table: the folder that its
            paths are relative to, if neither its own nor the current one; huggingface and resd:
            where to write recordings that are stored inside the tables (recordings).
        votes: CREMA-D: use the intended emotion, or the one that most raters chose from the voice.
        name: table and other formats: name of the corpus (default: of the file or folder).
        columns: table, audformat, huggingface: start=von if the column start is called von;
            start=none if there is none.
        encoding: table: text encoding, if it cannot be detected; such as gb18030 or cp1252.
        speaker: folders: regular expression whose first group is the speaker in a path.
        tables: audformat: tables to read, such as files,emotion.categories.*.gold_standard.
        part: keep only this part of the corpus's official split.
    """
    from multimodal_ser.corpora import CORPORA, Corpus, write_manifest
    from multimodal_ser.corpora.labels import class_set
    from multimodal_ser.corpora.summary import summarise_corpus
    from multimodal_ser.corpora.utterance import check_utterances

    if corpus not in CORPORA:
        raise SerError(one_of("corpus", corpus, CORPORA))
    info = CORPORA[corpus]
    given = {"audio_dir": audio_dir, "votes": votes, "name": name, "encoding": encoding,
             "speaker": speaker, "tables": tables}  # fmt: skip
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    options |= {"columns": columns} if columns else {}
    # readers of different corpora take different options; their signatures say which
    if strange := sorted(options.keys() - inspect.signature(info.read).parameters.keys()):
        raise SerError(f"--{strange[0].replace('_', '-')} is not an option of {corpus}")
    read = info.read(root, **options)
    if not isinstance(read, Corpus):
        raise SerError(f"the reader of {corpus} gave a {type(read).__name__}, not a Corpus")
    check_utterances(read.utterances)
    if part is not None:
        read = Corpus([row for row in read.utterances if row.split == part], read.left_out)
        if not read.utterances:
            raise SerError(f"{corpus} in {root} has no {part} part; leave out --part")
    if not read.utterances:
        reason = "; ".join([*read.left_out][:3]) or "nothing was left out"
        raise SerError(
            f"{corpus} in {root}: no utterance was found ({reason}); check --root, and the reader "
            "if it is your own"
        )
    chosen = labels or info.labels
    rows = summarise_corpus(read, class_set(chosen) if chosen else None)
    write_manifest(read.utterances, out)
    for section in dict.fromkeys(row.part for row in rows):
        chosen_rows = [row for row in rows if row.part == section]
        say(f"{section}:")
        for row in chosen_rows[:MOST_SHOWN]:
            say(f"  {row.total:6d}  {row.name}")
        if len(chosen_rows) > MOST_SHOWN:
            say(f"          … and {len(chosen_rows) - MOST_SHOWN} more")
    say(f"wrote {out}; licence of the corpus: {info.licence}")


@app.command(name="check")
def check_command(manifest: File, /, shortest: float = 0.1) -> int:
    """Opens every recording of a manifest and lists what is wrong with it.

    Args:
        manifest: from `ser manifest`.
        shortest: seconds; shorter recordings are reported.
    """
    from multimodal_ser.audio.check import check as check_recordings
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.splits.cautions import cautions

    utterances = read_manifest(manifest)
    findings = check_recordings(utterances, shortest=shortest)
    for finding in findings:
        say(f"{finding.problem:12} {finding.id}  {finding.detail}")
    for line in cautions(utterances):
        say(f"caution: {line}")
    say(f"{counted(len(utterances), 'utterance')} checked, {counted(len(findings), 'finding')}")
    return 1 if findings else 0


@app.command(name="split")
def split_command(
    manifest: File,
    /,
    labels: str,
    scheme: str,
    out: Path,
    folds: int | None = None,
    allow: tuple[str, ...] = (),
) -> None:
    """Writes a split file: ids of every fold's parts, with a hash.

    Args:
        manifest: from `ser manifest`.
        labels: class set; utterances outside it are left out.
        scheme: a split that `ser list` shows, such as speaker, a JSON file that lists the speakers
            of train, dev and test, or a folder of the EmoBox benchmark's folds.
        out: the file to write.
        folds: number of folds; default: leave one group out at a time.
        allow: overlaps to accept: speaker, session, dialogue, recording, fold.
    """
    from multimodal_ser.corpora import read_manifest
    from multimodal_ser.corpora.labels import class_set
    from multimodal_ser.splits import make_split
    from multimodal_ser.splits.cautions import cautions, cautions_of_folds
    from multimodal_ser.splits.folds import write_split

    classes = class_set(labels)
    every = read_manifest(manifest)
    for corpus in sorted({row.corpus for row in every}):
        classes.check_covers(corpus, {row.emotion for row in every if row.corpus == corpus})
    rows = [row for row in every if classes.class_of(row.corpus, row.emotion)]
    made = make_split(rows, scheme, folds=folds, allow=allow)
    write_split(made, out)
    say(f"wrote {out}: {made.name}, {counted(len(made.folds), 'fold')}, hash {made.hash}")
    left = Counter(row.emotion for row in every) - Counter(row.emotion for row in rows)
    for word, count in sorted(left.items()):
        say(f"  left out: {count}, emotion {word!r} is not in {labels}")
    for leak in made.leaks:
        say(f"  leak: {leak}")
    for note in made.notes:
        say(f"  note: {note}")
    class_of = {row.id: str(classes.class_of(row.corpus, row.emotion)) for row in rows}
    warned = cautions(rows, lambda row: class_of[row.id])
    for line in [*warned, *cautions_of_folds(made.folds, class_of, classes.classes)]:
        say(f"  caution: {line}")
