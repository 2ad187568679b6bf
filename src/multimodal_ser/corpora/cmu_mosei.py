"""CMU-MOSEI folder → Utterance: people talking to a camera, intensities of six emotions.

Reads the raw release, ``Raw``: each rater's annotations in ``Labels/*.csv`` (Input.VIDEO_ID,
Input.CLIP, WorkerId, Answer.anger …, from 0 to 3), ``Transcript/Segmented/Combined/<video>.txt``
(lines ``video___clip___start___end___words``) and ``Audio/Full/WAV_16000/<video>.wav``, from which
each utterance is cut. The official parts are in ``cmu_mosei_std_folds.py`` of CMU-MultimodalSDK;
put it next to ``Raw``.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.columns import rating
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_FOLDS = "cmu_mosei_std_folds.py"
_NEEDED = ("Input.VIDEO_ID", "Input.CLIP", "WorkerId", *(f"Answer.{name}" for name in _EMOTIONS))
_PARTS = {
    "standard_train_fold": "train",
    "standard_valid_fold": "dev",
    "standard_test_fold": "test",
}


def read_cmu_mosei(root: Path) -> Corpus:
    """Reads the folder that holds ``Raw``, or ``Raw`` itself.

    Raises:
        SerError: folder, raters' labels or recordings are missing.
    """
    root = base.require_folder(Path(root), "CMU-MOSEI", "Raw", "Labels")
    raw = root / "Raw" if (root / "Raw").is_dir() else root
    tables = base.files(raw / "Labels", [".csv"])
    if not tables:
        raise SerError(f"no {raw / 'Labels'}/*.csv; give the folder of CMU-MOSEI's raw release")
    lost: base.Lost = []
    raters = _read_raters(tables, lost)
    beside = [place / _FOLDS for place in (root, raw, root.parent)]
    lists = next((path for path in beside if path.is_file()), None)
    part_of = _read_parts(lists) if lists else {}
    found: list[Utterance | str] = []
    if not lists:
        found.append(f"{base.NOTE}no {_FOLDS} next to Raw, so the official parts are unknown")
    for own_id, start, end, text in _stretches(raw / "Transcript" / "Segmented" / "Combined"):
        video = own_id.rpartition("_")[0]
        path = base.sound_at(raw / "Audio" / "Full" / "WAV_16000" / f"{video}.wav")
        reason = base.fault(path) or (None if own_id in raters else "no rater")
        if end <= start:
            reason = f"ends at {end} s, before it begins"
        if reason:
            found.append(f"cmu-mosei/{own_id}: {reason}")
        else:
            made = _utterance(own_id, path, raters[own_id], text)
            found.append(replace(made, start=start, end=end, split=part_of.get(video)))
    return base.finish("CMU-MOSEI", root, [*found, *base.lost_votes(lost)])


def _read_raters(tables: list[Path], lost: base.Lost) -> dict[str, base.Raters]:
    raters: dict[str, base.Raters] = defaultdict(dict)
    for path in tables:
        for number, row in enumerate(base.read_csv_rows(path, _NEEDED), 2):
            where = f"{path}:{number}"
            video = row["Input.VIDEO_ID"].rpartition("/")[2]
            given = {name: row[f"Answer.{name}"] for name in _EMOTIONS}
            # the crowd-sourcing tables have rows without an answer, and answers that were refused
            refused = row.get("AssignmentStatus") == "Rejected"
            if refused or not video or not any(given.values()):
                continue
            levels = {name: rating(where, name, cell) for name, cell in given.items() if cell}
            # a rater's vote is the emotion of highest intensity; several equal ones share the vote
            highest = max(levels.values())
            words = [name for name, level in levels.items() if level == highest > 0]
            answer: dict[str, Any] = {"emotion": words or ["neutral"], **levels}
            if row.get("Answer.sentiment"):
                answer["sentiment"] = rating(where, "sentiment", row["Answer.sentiment"])
            clip = raters[f"{video}_{row['Input.CLIP']}"]
            base.put_answer(clip, row["WorkerId"], answer, f"{path.name}:{number}", lost)
    return raters


def _read_parts(path: Path) -> dict[str, str]:
    """Returns the part of each video; the Python file is parsed, never run."""
    part_of: dict[str, str] = {}
    try:
        for line in ast.parse(base.read_text(path)).body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                part = _PARTS.get(line.targets[0].id)
                part_of |= dict.fromkeys(ast.literal_eval(line.value), part) if part else {}
    except (SyntaxError, ValueError, TypeError) as error:
        raise SerError(
            f"{path}: no lists of videos ({error}); take the file of CMU-MultimodalSDK"
        ) from error
    return part_of


def _stretches(folder: Path) -> Iterator[tuple[str, float, float, str]]:
    """Yields id, start and end in seconds, and words."""
    for path in base.files(folder, [".txt"]):
        for number, line in enumerate(base.read_text(path).split("\n"), 1):
            if not line.strip():
                continue
            video, clip, *times, text = [*line.split("___", 4), "", "", "", ""][:5]
            start, end = (rating(f"{path}:{number}", "a time", cell) for cell in times)
            yield f"{video}_{clip}", max(start, 0.0), end, text.strip(" _")


def _utterance(own_id: str, path: Path, raters: Mapping[str, Any], text: str) -> Utterance:
    means = base.means_of(raters.values(), (*_EMOTIONS, "sentiment"))
    intensities = {name: round(means[name], 6) for name in _EMOTIONS if name in means}
    strongest = base.most_chosen(intensities) or "no agreement"
    extra: dict[str, Any] = {"intensities": intensities, "raters": raters}
    if "sentiment" in means:
        extra["sentiment"] = round(means["sentiment"], 6)
    return Utterance(
        id=f"cmu-mosei/{own_id}",
        corpus="cmu-mosei",
        emotion=strongest if any(intensities.values()) else "neutral",
        audio=str(path),
        text=text or None,
        dialogue=path.stem,
        votes=base.votes_of(raters.values()),
        extra=extra,
    )
