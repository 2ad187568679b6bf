"""IEMOCAP folder → Utterance: five sessions of two actors, scripted and improvised dialogues.

Read are ``Session*/dialog/EmoEvaluation/*.txt`` (labels), ``dialog/transcriptions/*.txt`` (words)
and ``sentences/wav/<dialogue>/<id>.wav`` (one utterance a file). Known traps: transcripts carry
time stamps; ``._*`` files are no transcripts; the speaker is named by the letter before an id's
final number, the dialogue's letter only says who wore the motion-capture markers.
"""

from __future__ import annotations

import re
from pathlib import Path

from multimodal_ser.corpora.base import (
    NOTE,
    CorpusInfo,
    fault,
    files,
    finish,
    read_text,
    require_folder,
)
from multimodal_ser.corpora.utterance import Corpus, Utterance
from multimodal_ser.errors import SerError

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LABEL = re.compile(
    rf"\[{_NUMBER}\s*-\s*{_NUMBER}\]\s+(Ses\d\d[FM]_\w+_[FM]\w*)\s+(\w+)\s+"
    rf"\[{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\]\s*$"
)
# With or without stamp and colon; lines that name no utterance ("M: …") are nobody's words.
_WORDS = re.compile(r"(Ses\d\d[FM]_\w+)\s*(?:\[[\d.\s-]*\])?\s*:?\s*(.*?)\s*$")


def read(root: Path) -> Corpus:
    """Reads the release folder, or the one that holds ``IEMOCAP_full_release``.

    Raises:
        SerError: no session in it, or no utterance.
    """
    root = require_folder(Path(root), "IEMOCAP")
    if not list(root.glob("Session[1-5]")) and (root / "IEMOCAP_full_release").is_dir():
        root = root / "IEMOCAP_full_release"
    sessions = sorted(path for path in root.glob("Session[1-5]") if path.is_dir())
    if not sessions:
        raise SerError(
            f"{root}: holds no folder Session1 … Session5; give IEMOCAP's release folder "
            "(IEMOCAP_full_release)"
        )
    utterances: list[Utterance] = []
    left_out: list[str] = []
    for session in sessions:
        _read_session(session, utterances, left_out)
    for number in sorted(set("12345") - {path.name[-1] for path in sessions}):
        left_out.append(f"Session{number}: no such folder")
    if wordless := sum(row.text is None for row in utterances):
        left_out.append(f"{NOTE}{wordless} utterances have no words in dialog/transcriptions")
    return finish("IEMOCAP", root, utterances, left_out)


def _read_session(session: Path, utterances: list[Utterance], left_out: list[str]) -> None:
    words = _read_words(session / "dialog" / "transcriptions")
    for path in files(session / "dialog" / "EmoEvaluation", [".txt"]):
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if not line.startswith("["):
                continue  # header and single raters
            if label := _LABEL.match(line):
                _add(label, session, words, utterances, left_out)
            else:
                left_out.append(f"{path.name}:{number}: not of the shape [time] id label [v, a, d]")
    left_out += _unlabelled(session, utterances)


def _unlabelled(session: Path, utterances: list[Utterance]) -> list[str]:
    labelled = {row.audio for row in utterances}
    folders = sorted((session / "sentences" / "wav").glob("Ses*"))
    found = (path for folder in folders for path in files(folder, [".wav"]))
    return [
        f"iemocap/{path.stem}: no label in EmoEvaluation"
        for path in found
        if str(path) not in labelled and fault(path) is None
    ]


def _read_words(folder: Path) -> dict[str, str]:
    words: dict[str, str] = {}
    for path in files(folder, [".txt"]):
        for line in read_text(path).split("\n"):
            if match := _WORDS.match(line.strip()):
                words.setdefault(match[1], match[2])
    return words


def _add(
    label: re.Match[str],
    session: Path,
    words: dict[str, str],
    utterances: list[Utterance],
    left_out: list[str],
) -> None:
    start, end, own_id, emotion, valence, arousal, dominance = label.groups()
    dialogue, turn = own_id.rsplit("_", 1)
    audio = session / "sentences" / "wav" / dialogue / f"{own_id}.wav"
    if reason := fault(audio):
        left_out.append(f"iemocap/{own_id}: {reason}")
        return
    utterances.append(
        Utterance(
            id=f"iemocap/{own_id}",
            corpus="iemocap",
            emotion=emotion,
            audio=str(audio),
            text=words.get(own_id) or None,
            speaker=own_id[:5] + turn[0],
            session=own_id[:5],
            dialogue=dialogue,
            attributes={
                "valence": float(valence),
                "arousal": float(arousal),
                "dominance": float(dominance),
            },
            extra={"dialogue_start": float(start), "dialogue_end": float(end)},
        )
    )


INFO = CorpusInfo(
    name="iemocap",
    description="acted dialogues in English, 10 speakers in 5 sessions, 10,039 utterances",
    read=read,
    licence="for research, on request to USC SAIL; not to be passed on",
    citation="""@article{busso2008iemocap,
  author  = {Busso, Carlos and Bulut, Murtaza and Lee, Chi-Chun and Kazemzadeh, Abe and
             Mower, Emily and Kim, Samuel and Chang, Jeannette N. and Lee, Sungbok and
             Narayanan, Shrikanth S.},
  title   = {{IEMOCAP}: interactive emotional dyadic motion capture database},
  journal = {Language Resources and Evaluation},
  volume  = {42},
  number  = {4},
  pages   = {335--359},
  year    = {2008},
  doi     = {10.1007/s10579-008-9076-6}
}""",
    url="https://sail.usc.edu/iemocap/",
    labels="iemocap4",
    attribute_scale=(1.0, 5.0),
)
