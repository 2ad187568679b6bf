"""EmoDB folder → Utterance: the Berlin database, ten actors, ten German sentences.

Reads ``wav/03a01Fa.wav`` or ``.flac`` (speaker, sentence, emotion letter, version) and, if present,
``erkennung.txt``: the percentage of 20 listeners who recognised the emotion and who found it
natural. Ages and sexes are from the corpus's documentation. Known traps: ``erkennung.txt`` is
Latin-1 with no-break spaces and decimal commas, and also lists recordings that were not published.
281 of these are in EmoDB 2.0; if they are in the folder, they are read with their intended emotion,
and a note says so (``emodb2`` marks them as ambiguous). All actors say the same ten sentences.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal_ser.corpora.base import (
    NOTE,
    SOUND,
    CorpusInfo,
    cite,
    fault,
    files,
    finish,
    require_folder,
    traps_of,
)
from multimodal_ser.corpora.utterance import Corpus, Utterance

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
    utterances: list[Utterance] = []
    left_out: list[str] = []
    for path in files(folder, SOUND):
        name = _NAME.fullmatch(path.stem)
        if name is None or name[1] not in EMODB_SPEAKERS or name[2] not in EMODB_SENTENCES:
            left_out.append(f"emodb/{path.stem}: not named SPEAKER SENTENCE EMOTION VERSION")
        elif reason := fault(path):
            left_out.append(f"emodb/{path.stem}: {reason}")
        else:
            utterances.append(_utterance(path, name, rates.get(path.stem, {})))
    # more recordings under the same name would give scores that look comparable and are not
    if len(utterances) > PUBLISHED:
        left_out.append(
            f"{NOTE}{len(utterances)} recordings, of which the published EmoDB has {PUBLISHED}: "
            "results are not comparable with those on EmoDB; read EmoDB 2.0 as emodb2"
        )
    return finish("EmoDB", root, utterances, left_out)


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
    traps=traps_of(__doc__),
)
