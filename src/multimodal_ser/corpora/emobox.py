"""EmoBox's JSON lines → Utterance: any of the 32 corpora as that benchmark lists them.

Reads ``data/<dataset>/<dataset>.jsonl`` (key, wav, emo) with ``label_map.json`` (code → word) and
``data.seg.wrd.stm``, which gives the speakers. The recordings are in ``downloads``, two folders
above. ``ser split --scheme data/<dataset>`` uses the benchmark's own folds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import parse_json
from multimodal_ser.corpora import base
from multimodal_ser.corpora.labels import BUILT_IN_CORPORA
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.toolkits import find
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError

OURS = {  # the benchmark's name → our name
    "asvpesd": "asvp-esd", "emovdb": "emov-db", "jlcorpus": "jl-corpus", "turevdb": "turev-db",
    "msppodcast": "msp-podcast",
}  # fmt: skip
_SPEAKER = re.compile(r"(\S+) \S+ (\S+) ")


def read_emobox(root: Path) -> Corpus:
    """Reads one dataset.

    Args:
        root: its folder in EmoBox, ``data/<dataset>``.

    Raises:
        SerError: folder or list are missing, a row is invalid, or the corpus has a reader of its
            own.
    """
    root = base.require_folder(Path(root), "an EmoBox dataset")
    table = root / f"{root.resolve().name}.jsonl"
    if not table.is_file():
        raise SerError(f"no {table}; give a dataset's folder in EmoBox, such as EmoBox/data/resd")
    words = root / "label_map.json"
    labels = base.json_of(words, base.read_text(words)) if words.is_file() else {}
    spoken = _speakers(root / "data.seg.wrd.stm")
    rows: list[dict[str, Any]] = []
    name = root.resolve().name
    for number, line in enumerate(filter(str.strip, base.read_text(table).split("\n")), 1):
        try:
            row = parse_json(line)
            name = OURS.get(row["dataset"], row["dataset"])
            rows.append(
                {
                    "id": utterance_id(row["dataset"], row["key"]),
                    "audio": str(find(root, row["wav"])),
                    # some datasets list several words for one code, of which the first is the main
                    # one
                    "emotion": labels.get(row["emo"], row["emo"]).split(",")[0],
                    "speaker": spoken.get(row["key"]),
                    "start": row.get("start_time"),
                    "end": row.get("end_time"),
                    "code": row["emo"],
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SerError(f"{table}:{number}: not an EmoBox row ({error!r})") from error
    if name in BUILT_IN_CORPORA:
        raise SerError(
            f"{name} has a reader of its own: ser manifest {name}; the benchmark's folds fit it: "
            f"ser split --scheme {root}"
        )
    return of_rows(name, table, rows)


def _speakers(path: Path) -> dict[str, str]:
    """Returns the speaker by row key, from the benchmark's other list."""
    lines = base.read_text(path).split("\n") if path.is_file() else []
    return {found[1]: found[2] for line in lines if (found := _SPEAKER.match(line))}


def utterance_id(dataset: str, key: str) -> str:
    """Returns the part of a row's id after the corpus's name.

    >>> utterance_id("resd", "resd-31_fear")
    '31_fear'
    """
    return key.removeprefix(f"{dataset}-")
