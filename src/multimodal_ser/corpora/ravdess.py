"""RAVDESS folder → Utterance: 24 actors, two statements in English, eight emotions.

Reads the recordings named ``03-01-01-01-01-01-01.wav`` in the folders ``Actor_01`` … at any depth:
modality, channel, emotion, intensity, statement, repetition, actor. Only audio-only speech
(modality 03, channel 01) is used; song and video are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal_ser.corpora import base
from multimodal_ser.corpora.utterance import Corpus, Utterance

RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
_RAVDESS_STATEMENTS: dict[str, str] = base.facts()["ravdess"]["texts"]
_INTENSITIES = {"01": "normal", "02": "strong"}

_NAME = re.compile(r"(\d\d)-(\d\d)-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")


def read_ravdess(root: Path) -> Corpus:
    """Reads all folders ``Actor_*`` or ``actor_*`` in `root`, or `root` itself if it is one.

    Raises:
        SerError: no such folder, or no speech in it.
    """
    root = base.require_folder(Path(root), "RAVDESS")
    found: list[Utterance | str] = []
    folders = sorted(root.glob("**/[Aa]ctor_*"), key=lambda path: (len(path.parts), path))
    kinds = base.SOUND + base.VIDEO
    for path in (path for folder in folders or [root] for path in base.files(folder, kinds)):
        reason = _reason(path)
        found.append(f"ravdess/{path.stem}: {reason}" if reason else _utterance(path))
    return base.finish("RAVDESS", root, found)


def _reason(path: Path) -> str | None:
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return "not named by seven numbers"
    if name[2] != "01":
        return "song, not speech"
    if name[1] != "03":
        return "video, not audio alone"
    return base.fault(path)


def _utterance(path: Path) -> Utterance:
    _, _, emotion, intensity, statement, repetition, actor = path.stem.split("-")
    extra: dict[str, Any] = {
        # the corpus numbers male actors odd and female actors even
        "sex": "male" if int(actor) % 2 else "female",
        "intensity": _INTENSITIES[intensity],
        "repetition": int(repetition),
    }
    return Utterance(
        id=f"ravdess/{path.stem}",
        corpus="ravdess",
        emotion=RAVDESS_EMOTIONS[emotion],
        audio=str(path),
        text=_RAVDESS_STATEMENTS[statement],
        speaker=actor,
        extra=extra,
    )
