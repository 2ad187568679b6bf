"""Emozionalmente folder → Utterance: 18 Italian sentences by 431 people, five votes each.

Reads ``metadata/samples.csv`` (file_name, actor, sentence, emotion_expressed), ``users.csv``
(username, gender, age, mother_tongue), ``evaluations.csv`` (file_name, emotion_recognized),
``split/*.csv`` (file_name), if present, and ``audio/``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.columns import rating
from multimodal_ser.corpora.labels import sex_of, shared_word
from multimodal_ser.corpora.rows import part_named
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError


def read_emozionalmente(root: Path) -> Corpus:
    """Reads the folder that holds ``metadata`` and ``audio``.

    Raises:
        SerError: no such folder or table, or no recording.
    """
    root = base.require_folder(Path(root), "Emozionalmente", "metadata")
    samples = root / "metadata" / "samples.csv"
    if not samples.is_file():
        raise SerError(f"no {samples}; give the folder that Emozionalmente was unpacked into")
    users = samples.with_name("users.csv")
    people = base.read_csv_rows(users, ["username", "gender", "age"]) if users.is_file() else []
    speakers = {row["username"]: _person(f"{users}:{n}", row) for n, row in enumerate(people, 2)}
    lost: base.Lost = []
    raters = _read_raters(samples.with_name("evaluations.csv"), lost)
    part_of = {
        row["file_name"]: part_named(path.stem)
        for path in base.files(samples.parent / "split", [".csv"])
        for row in base.read_csv_rows(path, ["file_name"])
    }
    found: list[Utterance | str] = []
    rows = base.read_csv_rows(samples, ["file_name", "actor", "sentence", "emotion_expressed"])
    for row in rows:
        path = base.sound_at(root / "audio" / row["file_name"])
        if reason := base.fault(path) or ("" if row["emotion_expressed"] else "no emotion"):
            found.append(f"emozionalmente/{path.stem}: {reason}")
            continue
        ratings = raters.get(row["file_name"], {})
        found.append(
            Utterance(
                id=f"emozionalmente/{path.stem}",
                corpus="emozionalmente",
                emotion=shared_word(row["emotion_expressed"]),
                audio=str(path),
                text=row["sentence"] or None,
                speaker=row["actor"] or None,
                split=part_of.get(row["file_name"]),
                votes=base.votes_of(ratings.values()),
                extra={
                    **speakers.get(row["actor"], {}),
                    **({"raters": ratings} if ratings else {}),
                },
            )
        )
    found += base.unlisted(raters, {row["file_name"] for row in rows}, samples.name)
    return base.finish("Emozionalmente", root, [*found, *base.lost_votes(lost)])


def _person(where: str, row: dict[str, str]) -> dict[str, Any]:
    sex = sex_of(row["gender"])
    person: dict[str, Any] = {"sex": sex} if sex else {}
    return person | ({"age": int(rating(where, "age", row["age"]))} if row["age"] else {})


def _read_raters(path: Path, lost: base.Lost) -> dict[str, base.Raters]:
    raters: dict[str, base.Raters] = defaultdict(dict)
    rows = base.read_csv_rows(path, ["file_name", "emotion_recognized"]) if path.is_file() else []
    # releases call the rater's column differently
    for number, row in enumerate(rows, 2):
        who = row.get("evaluator") or row.get("user") or row.get("username") or f"line {number}"
        heard = row["emotion_recognized"]
        answer = {"emotion": [shared_word(heard)] if heard else []}
        base.put_answer(raters[row["file_name"]], who, answer, f"{path.name}:{number}", lost)
    return raters
