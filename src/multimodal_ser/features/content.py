"""manifest → a hash of the content of each utterance: of its recording's bytes, or of its words.

Features belong to this content, whatever the files are called and wherever they are. Recordings are
read anew each time, since a file's samples can change while its size and time stay the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.features.pool import ModalityName

_ABSENT = "absent"  # in place of the hash of a missing recording
_DIGITS = 16  # hexadecimal digits: 64 bits are enough to distinguish the recordings of a corpus
_BLOCK = 1 << 20  # bytes read at a time
_READERS = 4  # threads that read files; hashing releases the interpreter's lock


def with_content(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances, each with the hash of its recording's bytes as `content`."""
    paths = sorted({row.audio for row in utterances if row.audio is not None})
    # Sorted paths and a map: the order of results does not depend on the threads.
    with ThreadPoolExecutor(_READERS) as pool:
        hashes = dict(zip(paths, pool.map(file_hash, paths), strict=True))
    return [
        row if row.audio is None else replace(row, content=hashes[row.audio]) for row in utterances
    ]


def digest(value: object) -> str:
    """The sha256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


def file_hash(path: str | Path) -> str:
    """The first 16 digits of the sha256 of a file's bytes; `_ABSENT` if it cannot be read."""
    found = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError:
        return _ABSENT
    return found.hexdigest()[:_DIGITS]


def _input_of(row: Utterance, modality: ModalityName) -> str:
    """A hash of what is encoded of an utterance: its section of the recording, or its words."""
    what = [row.text] if modality == "text" else [row.content, row.start, row.end]
    return digest(what)[:_DIGITS]


def inputs_of(utterances: Iterable[Utterance], modality: ModalityName) -> dict[str, str]:
    """Id → `_input_of`, in the order of the ids."""
    found = {row.id: _input_of(row, modality) for row in utterances}
    return {key: found[key] for key in sorted(found)}


def changed(
    known: Mapping[str, str], utterances: Iterable[Utterance], modality: ModalityName
) -> set[str]:
    """The ids of utterances whose content is not the one that features were made from.

    Args:
        known: id → `_input_of`, as stored in the feature file.
        utterances: with their present `content`.
        modality: of the features.
    """
    return {row.id for row in utterances if known.get(row.id) != _input_of(row, modality)}
