"""manifest → a hash of the content of each utterance: of its recording's bytes, or of its words.

Features belong to this content, whatever the files are called and wherever they are. Recordings are
read anew each time, since a file's samples can change while its size and time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from multimodal_ser.corpora.utterance import GROUPS, Utterance, read_manifest, write_manifest
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.features.context import in_context
from multimodal_ser.features.pool import ModalityName
from multimodal_ser.features.store import FeatureStore

_log = logging.getLogger(__name__)
_JUDGED = ("emotion", *GROUPS, "split", "attributes", "votes")  # decide labels and splits
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


def keep_manifest(utterances: Sequence[Utterance], folder: Path) -> None:
    """Writes the manifest beside a corpus's features, and logs what was otherwise in the last one.

    All feature files of the folder are read with this manifest: its labels and speakers become
    theirs.
    """
    path, said = folder / "manifest.jsonl", ""
    if path.is_file():
        try:
            said = _changes(read_manifest(path), utterances)
        except SerError as error:
            said = f"it could not be read ({error})"
    if said:
        _log.warning(
            "%s, which all features in that folder are read with, is replaced: %s", path, said
        )
    write_manifest(utterances, path)


def _changes(before: Iterable[Utterance], after: Iterable[Utterance]) -> str:
    """Says how many utterances are new, gone, or have another value of a field."""
    old, new = ({row.id: row for row in rows} for rows in (before, after))
    both = [(old[key], new[key]) for key in old.keys() & new.keys()]
    counts = {
        f"with another {name}": sum(getattr(a, name) != getattr(b, name) for a, b in both)
        for name in _JUDGED
    }
    counts |= {"gone": len(old.keys() - new.keys()), "new": len(new.keys() - old.keys())}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"of its utterances {said}" if said else ""


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
    """The ids of utterances whose content is not the one that features were made from."""
    return {row.id for row in utterances if known.get(row.id) != _input_of(row, modality)}


def check_made_of(store: FeatureStore, rows: Sequence[Utterance]) -> None:
    """Raises FeatureError if features and manifest are of different recordings or words.

    A manifest may have been replaced under the same ids; its labels would then belong to other
    content than the features.
    """
    made_of = store.header.inputs
    if not made_of:  # the file does not state it
        return
    modality = store.header.modality
    around = store.header.context, store.header.context_after
    # Text features with context are made from the words of several utterances.
    given = in_context(rows, *around) if any(around) else rows
    known = [row for row in given if row.id in store and (modality == "text" or row.content)]
    if other := sorted(changed(made_of, known, modality)):
        what = "recordings" if modality == "audio" else "words"
        raise FeatureError(
            f"{store.path}: {len(other)} of its {len(store)} utterances, such as {other[0]!r}, "
            f"were made from other {what} than {store.path.parent / 'manifest.jsonl'} lists; make "
            f"them again from this manifest with ser extract --{modality}, or extract with the "
            "manifest that they were made from"
        )
