"""corpus folder → metadata/: the utterances as CSV, as the library's manifest, and their split."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from multimodal_ser.common.files import written_aside
from multimodal_ser.corpora import CORPORA, Corpus, Utterance, write_manifest
from multimodal_ser.corpora.labels import CLASS_SETS, ClassSet
from multimodal_ser.errors import SerError
from multimodal_ser.splits import make_split
from multimodal_ser.splits.folds import Split, write_split

FOLDER = Path("metadata")
PARTS = {
    "train": "train",
    "validation": "val",
    "test": "test",
}  # the library's words, the original's
COLUMNS = ("id", "path", "text", "speaker", "session", "dialogue", "emotion", "class", "label",
           "part")  # fmt: skip
_MOST_SHOWN = 10


@dataclass(frozen=True)
class Listing:
    """The files of a metadata script: a CSV, a manifest and a split file."""

    name: str

    @property
    def csv(self) -> Path:
        """The table for people and other programs."""
        return FOLDER / f"{self.name}.csv"

    @property
    def manifest(self) -> Path:
        """The manifest for the extraction."""
        return FOLDER / f"{self.name}.jsonl"

    @property
    def split(self) -> Path:
        """The split file."""
        return FOLDER / f"{self.name}.split.json"


def corpus_root(variable: str) -> Path:
    """The folder that an environment variable names.

    Raises:
        SerError: it is not set, or names no folder.
    """
    given = os.environ.get(variable, "")
    if not given or not Path(given).is_dir():
        said = f"names {given!r}, which is no folder" if given else "is not set"
        raise SerError(
            f"the environment variable {variable} {said}; give the folder of the corpus: "
            f"export {variable}=/path/to/the/corpus"
        )
    return Path(given)


def iemocap4(merge_excitement: bool = True) -> None:
    """Lists IEMOCAP's utterances of four classes, sessions 1-3 / 4 / 5.

    Args:
        merge_excitement: count excitement as happiness, as the field does (5,531 utterances);
            without it 4,490, as the original's script did.
    """
    labels = "iemocap4" if merge_excitement else "iemocap4-hap"
    read = CORPORA["iemocap"].read(corpus_root("IEMOCAP_ROOT"))
    _write("IEMOCAP_4class", read, CLASS_SETS[labels], "iemocap-original")


def iemocap6() -> None:
    """Lists IEMOCAP's utterances of six classes, sessions 1-3 / 4 / 5."""
    read = CORPORA["iemocap"].read(corpus_root("IEMOCAP_ROOT"))
    _write("IEMOCAP_6class", read, CLASS_SETS["iemocap6"], "iemocap-original")


def cremad(
    split: Literal["speaker", "cremad-original"] = "speaker",
    votes: Literal["intended", "voice"] = "intended",
    audio_dir: str = "AudioWAV",
) -> None:
    """Lists CREMA-D's utterances of four classes, each speaker in one part.

    Args:
        split: ``cremad-original`` shuffles the files as the original did: every speaker is
            then in all parts, and every result says so.
        votes: the intended emotion, or what most listeners heard in the voice.
        audio_dir: the folder of recordings.
    """
    root = corpus_root("CREMAD_ROOT")
    read = CORPORA["cremad"].read(root, votes=votes, audio_dir=audio_dir)
    _write("CREMAD", read, CLASS_SETS["cremad4"], split)


def meld() -> None:
    """Lists MELD's utterances of four classes in its official parts."""
    read = CORPORA["meld"].read(corpus_root("MELD_ROOT"))
    _write("MELD", read, CLASS_SETS["meld4"], "official")


def _write(name: str, read: Corpus, labels: ClassSet, scheme: str) -> None:
    rows = [row for row in read.utterances if labels.class_of(row.corpus, row.emotion)]
    listing, split = Listing(name), _split(rows, scheme)
    parts = part_of(split)
    write_manifest(rows, listing.manifest)
    write_split(split, listing.split)
    with (
        written_aside(listing.csv) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_cells(row, labels, parts[row.id]) for row in rows)
    say(f"{listing.csv}: {len(rows)} utterances; {split.name}")
    for part in PARTS.values():
        counts = [
            sum(parts[row.id] == part and labels.class_of(row.corpus, row.emotion) == c
                for row in rows)
            for c in labels.classes
        ]  # fmt: skip
        named = zip(labels.classes, counts, strict=True)
        say(f"  {part:5} {sum(counts):6d}: {', '.join(f'{c} {n}' for c, n in named)}")
    for leak in split.leaks:
        say(f"  LEAK: {leak}")
    for line in read.left_out[:_MOST_SHOWN]:
        say(f"  left out: {line}")
    if len(read.left_out) > _MOST_SHOWN:
        say(f"  … and {len(read.left_out) - _MOST_SHOWN} more")


def _split(rows: list[Utterance], scheme: str) -> Split:
    """Makes one fold, as in the original; by speaker, a tenth tests and a tenth validates."""
    if scheme != "speaker":
        return make_split(rows, scheme)
    made = make_split(rows, scheme, folds=min(10, len({row.speaker for row in rows})))
    return Split(f"{made.name}, the first fold", made.folds[:1], made.leaks, made.notes)


def part_of(split: Split) -> dict[str, str]:
    """Utterance id → train, val or test, for a split with one fold."""
    (fold,) = split.folds
    return {key: PARTS[part] for part in PARTS for key in getattr(fold, part)}


def _cells(row: Utterance, labels: ClassSet, part: str) -> dict[str, object]:
    name = str(labels.class_of(row.corpus, row.emotion))
    values = {column: getattr(row, column, None) for column in COLUMNS}
    return {
        **values,
        "path": row.audio,
        "class": name,
        "label": labels.classes.index(name),
        "part": part,
    }


def say(line: str) -> None:
    """Prints a line of the result."""
    sys.stdout.write(line + "\n")
