"""EmoDB 2.0, an audformat database → Utterance: all 816 recordings of EmoDB, with ambiguous ones.

Reads ``db.yaml``, the tables ``files``, ``emotion`` and ``emotion.categories.*``, and ``wav/``. The
535 recordings published before have the same names here; the other 281 were recognised by fewer
than 80 % of 20 listeners (``extra["ambiguous"]``). Known traps: The label is the intended emotion,
which most listeners may not have heard; ``extra["recognised"]`` is the share who did.
``laryngo/`` has signals of the larynx for the same recordings, which are not speech. The database's
parts ``train`` and ``test`` were defined by audEERING and cover only the 535. A model trained on
EmoDB has seen most of EmoDB 2.0.
"""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.corpora.audformat import joined_tables, read_header
from multimodal_ser.corpora.base import CorpusInfo, require_folder, traps_of
from multimodal_ser.corpora.emodb import EMODB
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError

_TABLES = "files,emotion,emotion.categories.*"
_AMBIGUOUS = "emotion.categories.ambiguous"
_OURS = {
    "emotion.confidence": "recognised",
    "emotion.naturalness": "natural",
    "transcription": "text",
}


def read_emodb2(root: Path) -> Corpus:
    """Reads the folder of ``db.yaml``.

    Raises:
        SerError: no such folder or header, or no recording.
    """
    root = require_folder(Path(root), "EmoDB 2.0")
    header = read_header(root)
    if _AMBIGUOUS not in header["tables"]:
        raise SerError(
            f"{root}: has no table {_AMBIGUOUS}, so it is no EmoDB 2.0; read an earlier one with: "
            "ser manifest emodb"
        )
    doubtful = {row["audio"] for row in joined_tables(root, header, _AMBIGUOUS)}
    rows = [
        {_OURS.get(name, name): cell for name, cell in row.items()}
        # YAML reads the speaker 03 as the number 3: zfill restores the name that EmoDB uses
        | {"id": Path(row["audio"]).stem, "speaker": str(row.get("speaker", "")).zfill(2)}
        | ({"ambiguous": True} if row["audio"] in doubtful else {})
        for row in joined_tables(root, header, _TABLES)
    ]
    return of_rows("emodb2", root / "db.yaml", rows)


EMODB2 = CorpusInfo(
    name="emodb2",
    description="EmoDB with 281 more recordings, which are ambiguous: 10 actors in 7 emotions, 816",
    read=read_emodb2,
    licence="CC0-1.0",
    citation=EMODB.citation,
    url="https://github.com/audeering/emodb",
    labels="anger,boredom,disgust,fear,happiness,neutral,sadness",
    speakers=10,
    parts="train, test (audEERING's) of the 535",
    traps=traps_of(__doc__),
)
