"""manifest → what is encoded of each utterance, as a hash: of the recording's bytes, or the words.

Features belong to this content, whatever the files are called and wherever they lie. Recordings are
read anew each time: sizes and times can stay while a file's samples change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.features.parts import digest
from multimodal_ser.features.pool import ModalityName

ABSENT = "absent"  # stands for the content of a recording that is not there
_DIGITS = 16  # hexadecimal; 64 bits tell a corpus's recordings apart
_BLOCK = 1 << 20
_READERS = 4  # files read at a time; hashing lets the interpreter's lock go


def with_content(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The same utterances, each with the hash of its recording's bytes as `content`."""
    paths = sorted({row.audio for row in utterances if row.audio is not None})
    with ThreadPoolExecutor(_READERS) as pool:
        hashes = dict(zip(paths, pool.map(file_hash, paths), strict=True))
    return [
        row if row.audio is None else replace(row, content=hashes[row.audio]) for row in utterances
    ]


def file_hash(path: str | Path) -> str:
    """First 16 digits of the sha256 of a file's bytes; `ABSENT` where it cannot be read."""
    found = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError:
        return ABSENT
    return found.hexdigest()[:_DIGITS]


def input_of(row: Utterance, modality: ModalityName) -> str:
    """A hash of what is encoded of one utterance: its stretch of sound, or its words."""
    what = [row.text] if modality == "text" else [row.content, row.start, row.end]
    return digest(what)[:_DIGITS]


def inputs_of(utterances: Iterable[Utterance], modality: ModalityName) -> dict[str, str]:
    """Id → `input_of`, in the order of the ids."""
    found = {row.id: input_of(row, modality) for row in utterances}
    return {key: found[key] for key in sorted(found)}


def changed(
    known: Mapping[str, str], utterances: Iterable[Utterance], modality: ModalityName
) -> set[str]:
    """The ids whose content is not the one that features were made of.

    Args:
        known: id → `input_of`, as a feature file remembers it.
        utterances: with their `content`.
        modality: of the features.
    """
    return {row.id for row in utterances if known.get(row.id) != input_of(row, modality)}
