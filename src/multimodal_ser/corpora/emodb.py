"""EmoDB and EmoDB 2.0 folders → Utterance: the Berlin database, ten actors, ten German sentences.

EmoDB has ``wav/03a01Fa.wav`` or ``.flac`` (speaker, sentence, emotion letter, version) and, if
present, ``erkennung.txt``: the percentage of 20 listeners who recognised the emotion and who found
it natural. Ages and sexes are from the corpus's documentation.

EmoDB 2.0 is an audformat database: ``db.yaml``, the tables ``files``, ``emotion`` and
``emotion.categories.*``, and ``wav/``. Its 535 recordings that were published before have the same
names; the other 281 were recognised by fewer than 80 % of 20 listeners (``extra["ambiguous"]``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.audformat import joined_tables, read_header
from multimodal_ser.corpora.base import (
    NOTE,
    SOUND,
    CorpusInfo,
    cite,
    fault,
    files,
    finish,
    require_folder,
)
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

EMODB_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
# sex and age as in the corpus's documentation
EMODB_SPEAKERS: dict[str, tuple[str, int]] = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}

PUBLISHED = 535

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
_RATES = re.compile(r"\d+\s+(\w+)\.wav\s+(\d+(?:,\d+)?)\s+(\d+(?:,\d+)?)\s*")


def read_emodb(root: Path) -> Corpus:
    """Reads the folder that holds ``wav``, or ``wav`` itself.

    Raises:
        SerError: no such folder, or no recording in it.
    """
    root = require_folder(Path(root), "EmoDB")
    folder = root / "wav" if (root / "wav").is_dir() else root
    rates = _read_rates([root / "erkennung.txt", folder.parent / "erkennung.txt"])
    found: list[Utterance | str] = []
    for path in files(folder, SOUND):
        name = _NAME.fullmatch(path.stem)
        if name is None or name[1] not in EMODB_SPEAKERS or name[2] not in EMODB_SENTENCES:
            found.append(f"emodb/{path.stem}: not named SPEAKER SENTENCE EMOTION VERSION")
        elif reason := fault(path):
            found.append(f"emodb/{path.stem}: {reason}")
        else:
            found.append(_utterance(path, name, rates.get(path.stem, {})))
    # more recordings under the same name would give scores that look comparable and are not
    count = sum(isinstance(one, Utterance) for one in found)
    if count > PUBLISHED:
        found.append(
            f"{NOTE}{count} recordings, of which the published EmoDB has {PUBLISHED}: "
            "results are not comparable with those on EmoDB; read EmoDB 2.0 as emodb2"
        )
    return finish("EmoDB", root, found)


def _read_rates(places: list[Path]) -> dict[str, dict[str, float]]:
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}
    rates = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if row := _RATES.fullmatch(line):
            recognised, natural = (float(row[place].replace(",", ".")) for place in (2, 3))
            rates[row[1]] = {"recognised": recognised, "natural": natural}
    return rates


def _utterance(path: Path, name: re.Match[str], rates: dict[str, float]) -> Utterance:
    speaker, sentence, emotion, version = name.groups()
    sex, age = EMODB_SPEAKERS[speaker]
    extra: dict[str, Any] = {"sex": sex, "age": age, "version": version, **rates}
    return Utterance(
        id=f"emodb/{path.stem}",
        corpus="emodb",
        emotion=emotion,
        audio=str(path),
        text=EMODB_SENTENCES[sentence],
        speaker=speaker,
        extra=extra,
    )


EMODB = CorpusInfo(
    name="emodb",
    description="10 sentences in German by 10 actors in 7 emotions, 535 recordings",
    read=read_emodb,
    licence="CC0-1.0",
    citation=cite("burkhardt2005emodb"),
    url="http://emodb.bilderbar.info/",
    labels="emodb7",
    speakers=10,
    traps=(
        "`erkennung.txt` is Latin-1 with no-break spaces and decimal commas, and also lists "
        "recordings that were not published. 281 of these are in EmoDB 2.0; if they are in the "
        "folder, they are read with their intended emotion, and a note says so (`emodb2` marks "
        "them as ambiguous). All actors say the same ten sentences."
    ),
)


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
    traps=(
        "The label is the intended emotion, which most listeners may not have heard; "
        '`extra["recognised"]` is the share who did. `laryngo/` has signals of the larynx for '
        "the same recordings, which are not speech. The database's parts `train` and `test` "
        "were defined by audEERING and cover only the 535. A model trained on EmoDB has seen "
        "most of EmoDB 2.0."
    ),
)
