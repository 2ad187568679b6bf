"""lhotse manifests → Utterance: recordings and supervisions, or cuts, as JSON lines.

Reads ``*recordings*.jsonl`` with ``*supervisions*.jsonl``, or otherwise ``*cuts*.jsonl``, each also
as ``.jsonl.gz``. A supervision's emotion is a field of its own or one of its ``custom`` fields. If
a file's name contains ``train``, ``dev`` or ``test``, that is the part. Known traps: The times of a
supervision inside a cut are relative to the start of the cut. A recording's source may be a command
or an address, which are not read. Several channels of a recording are averaged.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import CorpusInfo, json_of, require_folder, traps_of
from multimodal_ser.corpora.kaldi import find
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError

_PART = re.compile(r"(?:^|[_.-])(train|dev|valid|validation|test)(?=[_.-]|$)")
_KEPT = ("id", "text", "speaker", "gender", "language")
_NEEDED = {
    "recordings": {"id", "sources"},
    "supervisions": {"id", "recording_id", "start", "duration"},
    "cuts": {"id", "start"},
}
_TIMES = 6  # decimals of a second: sums of floats such as 0.1 + 0.2 would leave noise in manifests


def read_lhotse(root: Path, name: str | None = None) -> Corpus:
    """Reads all manifests of a folder.

    Args:
        root: their folder; relative paths are looked for below it and above it.
        name: the corpus's name in ids and results; None for the folder's.

    Raises:
        SerError: there are no manifests, or a supervision's recording is in none of them.
    """
    root = require_folder(Path(root), "lhotse's manifests")
    recordings = {row["id"]: row for _, row in _objects(root, "recordings")}
    rows = [_row(root, part, one, recordings) for part, one in _objects(root, "supervisions")]
    if not rows:
        rows = [
            _row(root, part, {**one, "start": cut["start"] + one["start"]}, cut)
            for part, cut in _objects(root, "cuts")
            for one in cut.get("supervisions", ())
        ]
    if not rows:
        raise SerError(
            f"{root}: no *recordings*.jsonl(.gz) with *supervisions*.jsonl(.gz), and no "
            "*cuts*.jsonl(.gz); give the folder with lhotse's manifests"
        )
    return of_rows(name or root.resolve().name, root / "supervisions", rows)


def _objects(root: Path, kind: str) -> Iterator[tuple[str | None, dict[str, Any]]]:
    for path in sorted([*root.glob(f"*{kind}*.jsonl"), *root.glob(f"*{kind}*.jsonl.gz")]):
        part = _PART.search(path.name.partition(".jsonl")[0].lower())
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8") as file:
                lines = list(file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise SerError(f"{path}: cannot be read ({error}); fetch the file again") from error
        for number, line in enumerate(lines, 1):
            row = json_of(Path(f"{path}:{number}"), line)
            if lacking := sorted(_NEEDED[kind] - row.keys()):
                raise SerError(f"{path}:{number}: lacks {', '.join(lacking)}; write it with lhotse")
            yield part[1] if part else None, row


def _row(
    root: Path, part: str | None, one: Mapping[str, Any], recordings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a supervision's row; `recordings` is a cut if the supervision is part of one."""
    recording = recordings.get(one["recording_id"]) or recordings.get("recording") or {}
    source = recording.get("sources", [{}])[0]
    if source.get("type") != "file":
        raise SerError(
            f"{root}: the supervision {one['id']!r} belongs to the recording "
            f"{one['recording_id']!r}, whose source is {source or 'in none of the manifests'}; "
            "only sources of the type file can be read: lhotse's save_audios writes them"
        )
    custom = one.get("custom") or {}
    start, length = one["start"], one["duration"]
    # durations are rounded in manifests; a segment that covers the file is stored as the whole file
    whole = start == 0 and abs(length - recording.get("duration", length)) < 0.01
    extra = {key: value for key, value in custom.items() if isinstance(value, str | int | float)}
    return {
        **extra,
        **{key: one.get(key) for key in _KEPT},
        "audio": str(find(root, source["source"])),
        "emotion": one.get("emotion") or custom.get("emotion") or "",
        "split": part,
        "start": None if whole else round(max(start, 0.0), _TIMES),
        "end": None if whole else round(start + length, _TIMES),
    }


LHOTSE = CorpusInfo(
    name="lhotse",
    description="lhotse's manifests, with an emotion at each supervision",
    read=read_lhotse,
    licence="that of the recordings",
    url="https://lhotse.readthedocs.io/en/latest/corpus.html",
    traps=traps_of(__doc__),
)
