"""EmoDB 2.0, an audformat database → Utterance: all 816 recordings of EmoDB, with doubtful ones.

Read are ``db.yaml``, the tables ``files``, ``emotion`` and ``emotion.categories.*`` and ``wav/``.
The published 535 recordings are in it, under the same names; 281 more are those that fewer than 80
% of 20 listeners recognised (``extra["ambiguous"]``). Known traps: the emotion is the intended one,
which may be what most listeners did not hear: ``extra["recognised"]`` is their share; ``laryngo/``
has the signals of the larynx to the same recordings, which are no speech; the database's parts
``train`` and ``test`` are audEERING's and know the 535 alone; whatever saw EmoDB saw most of it.
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
