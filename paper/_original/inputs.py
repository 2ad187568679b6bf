"""The original's feature files → material and split for the library's experiments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _original.pickles import Row, check_width, read_features, to_library
from multimodal_ser.corpora.labels import ClassSet
from multimodal_ser.dataset.material import Material, load_material, sounds_of
from multimodal_ser.splits import SCHEMES, make_split
from multimodal_ser.splits.folds import Fold, Split, hold_out, write_split

Ids = dict[str, tuple[str, ...]]
HELD_OUT = "validation held out of the training file"


@dataclass(frozen=True)
class Inputs:
    """One corpus: its features, and the single fold that the given files define."""

    material: Material
    split: Split


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        labels: the class set.
        text_dim: width of the text vectors, checked; None is not checked.
        audio_dim: width of the audio vectors, checked.
        allow: overlaps to accept, which every result then states.
    """

    labels: ClassSet
    text_dim: int | None = None
    audio_dim: int | None = None
    allow: Collection[str] = ()


def load_inputs(files: Mapping[str, Path], out: Path, how: Reading) -> Inputs:
    """Reads the files of one corpus and checks that nothing leaks between its parts.

    Args:
        files: part (``train``, ``validation``, ``test``) → its file. Without ``validation``, a
            tenth of the training set, in whole speakers, is the validation set; without
            ``test``, this is a source corpus, which is not tested.
        out: folder for the library's features and the split file.
        how: what to check.

    Raises:
        FeatureError: a file is missing, of another format, or of other widths than stated.
        LabelError: labels that are not what their words mean.
        SplitError: speakers, sessions, dialogues or recordings on two sides, unless the files
            were split so on purpose or `how` allows it.
    """
    rows = {part: read_features(path, how.labels) for part, path in files.items()}
    read = {path: rows[part] for part, path in files.items()}
    check_width(read, "text", how.text_dim)
    check_width(read, "audio", how.audio_dim)
    material = load_material(to_library(read, out), how.labels)
    kept = set(material.examples.ids)
    ids = {part: tuple(row["id"] for row in of if row["id"] in kept) for part, of in rows.items()}
    name, admitted = _scheme(rows)
    if "validation" not in ids:
        learnt = set(ids["train"])
        mine = [row for row in material.utterances if row.id in learnt]
        ids["train"], ids["validation"] = hold_out(mine)
        name += f", {HELD_OUT}"
    if "test" not in ids:
        return Inputs(material, _untested(name, ids))
    path = out / "split.json"
    write_split(Split(name, (Fold("the files given", **ids),)), path)
    allowed = {*how.allow, *admitted}
    utterances, sounds = material.utterances, sounds_of(material)
    return Inputs(material, make_split(utterances, str(path), allow=allowed, sounds=sounds))


def _scheme(rows: Mapping[str, Sequence[Row]]) -> tuple[str, tuple[str, ...]]:
    """Returns the split's name if all files agree, and the overlaps that it allows."""
    names = {str(row["split"]) for part in rows.values() for row in part}
    if len(names) != 1:
        return "the files given", ()
    name = names.pop()
    return name, SCHEMES[name].admits if name in SCHEMES else ()


def _untested(name: str, ids: Ids) -> Split:
    """Returns the split of a source corpus, with the validation rows also as test rows.

    A fold needs test rows; these are never used, because source models are not results.
    """
    fold = Fold("the files given", ids["train"], ids["validation"], ids["validation"])
    return Split(f"{name}, no test file", (fold,))


def whole_train(inputs: Inputs) -> Inputs:
    """Returns the validation rows that `load_inputs` held out to the training set.

    This is for the target of an adaptation, whose validation set would not choose anything.
    """
    (fold,) = inputs.split.folds
    whole = replace(fold, train=(*fold.train, *fold.validation))
    name = inputs.split.name.replace(HELD_OUT, "no validation file")
    return replace(inputs, split=replace(inputs.split, name=name, folds=(whole,)))
