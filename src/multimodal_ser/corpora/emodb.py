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

from multimodal_ser.corpora import base
from multimodal_ser.corpora.audformat import joined_tables, read_header
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError, counted

EMODB_SENTENCES: dict[str, str] = base.facts()["emodb"]["texts"]
EMODB_SPEAKERS: dict[str, str] = base.facts()["emodb"]["people"]  # sex and age, such as male:31
PUBLISHED = 535

_NAME = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])([a-z]?)")
_RATES = re.compile(r"\d+\s+(\w+)\.wav\s+(\d+(?:,\d+)?)\s+(\d+(?:,\d+)?)\s*")


def read_emodb(root: Path) -> Corpus:
    """Reads the folder that holds ``wav``, or ``wav`` itself.

    Raises:
        SerError: no such folder, or no recording in it.
    """
    recordings = [f"*{ending}" for ending in base.SOUND]
    root = base.require_folder(Path(root), "EmoDB", "wav", *recordings)
    folder = root / "wav" if (root / "wav").is_dir() else root
    rates = _read_rates([root / "erkennung.txt", folder.parent / "erkennung.txt"])
    found: list[Utterance | str] = []
    for path in base.files(folder, base.SOUND):
        name = _NAME.fullmatch(path.stem)
        if name is None or name[1] not in EMODB_SPEAKERS or name[2] not in EMODB_SENTENCES:
            found.append(f"emodb/{path.stem}: not named SPEAKER SENTENCE EMOTION VERSION")
        elif reason := base.fault(path):
            found.append(f"emodb/{path.stem}: {reason}")
        else:
            found.append(_utterance(path, name, rates.get(path.stem, {})))
    # a larger corpus under the same name would give scores that only look comparable
    count = sum(isinstance(one, Utterance) for one in found)
    if count > PUBLISHED:
        found.append(
            f"{base.NOTE}{counted(count, 'recording')}, of which the published EmoDB has "
            f"{PUBLISHED}: results are not comparable with those on EmoDB; read EmoDB 2.0 as emodb2"
        )
    return base.finish("EmoDB", root, found)


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
    extra = {**base.person(EMODB_SPEAKERS[speaker]), "version": version, **rates}
    return Utterance(
        id=f"emodb/{path.stem}",
        corpus="emodb",
        emotion=emotion,
        audio=str(path),
        text=EMODB_SENTENCES[sentence],
        speaker=speaker,
        extra=extra,
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
    root = base.require_folder(Path(root), "EmoDB 2.0", "db.yaml")
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
        | {"id": Path(row["audio"]).stem}
        | ({"speaker": str(row["speaker"]).zfill(2)} if "speaker" in row else {})
        | ({"ambiguous": True} if row["audio"] in doubtful else {})
        for row in joined_tables(root, header, _TABLES)
    ]
    return of_rows("emodb2", root / "db.yaml", rows)
