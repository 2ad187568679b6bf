"""Diarisation, and emotions by speaker, on artificial conversations made of real speech.

    python benchmarks/diarisation.py --manifest nemo.jsonl [--speakers held.txt] [--minutes 10]
        [--of 2 3 4] [--count 2] [--emotions]

Prints, for each number of speakers, the diarisation error rate of `Voices` (confusion + missed +
false speech, as a share of the speech of all speakers, overlaps included), with a collar of 0.25 s
and without, with the number of speakers given and not given; and the same if each speaker has a
channel. `--speakers` names a file with the speakers to use, one per line. With `--emotions`, prints
the share of each speaker's time in which the starter's most probable emotion is the right one, and
the mean over speakers: for the mixed recording, by speaker, and by speaker with a baseline for each
speaker.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from made_conversations import Conversation, conversations
from scipy.optimize import linear_sum_assignment

from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora import read_manifest
from multimodal_ser.predict import Predictor, load
from multimodal_ser.timeline import Timeline, analyze
from multimodal_ser.timeline.annotations import turns
from multimodal_ser.timeline.lanes import Listener
from multimodal_ser.timeline.speakers import Diariser
from multimodal_ser.timeline.voices import Voices

STEP = 0.01  # seconds
COLLAR = 0.25  # seconds


class Error(NamedTuple):
    """Parts of the diarisation error, as shares of the speech of all speakers."""

    missed: float
    false: float
    confused: float

    @property
    def rate(self) -> float:
        """The diarisation error rate."""
        return sum(self)


def error(talk: Conversation, found: Sequence[tuple[float, float, str]], collar: float) -> Error:
    """Compares the speakers found with the true ones, each matched with at most one."""
    count = round(len(talk.sound) / SAMPLE_RATE / STEP)
    names = sorted({who for *_, who in found}) or ["nobody"]
    truth, guess = np.zeros((count, len(talk.speakers)), bool), np.zeros((count, len(names)), bool)
    counted = np.ones(count, bool)
    for said in talk.said:
        truth[_part(said.start, said.end), talk.speakers.index(said.speaker)] = True
        for edge in (said.start, said.end):
            counted[_part(edge - collar, edge + collar)] = collar == 0
    for start, end, who in found:
        guess[_part(start, end), names.index(who)] = True
    truth, guess = truth[counted], guess[counted]
    both = truth.T.astype(float) @ guess
    right = both[linear_sum_assignment(-both)].sum()
    spoken, told = truth.sum(1), guess.sum(1)
    found_ = [
        np.maximum(spoken - told, 0).sum(), np.maximum(told - spoken, 0).sum(),
        np.minimum(spoken, told).sum() - right,
    ]  # fmt: skip
    return Error(*(float(part / spoken.sum()) for part in found_))


def _part(start: float, end: float) -> slice:
    return slice(max(0, round(start / STEP)), max(0, round(end / STEP)))


def by_voice(talk: Conversation) -> Diariser:
    """`Voices` whose embeddings are computed once per conversation and then reused."""
    heard = Voices().hear(iter([talk.mono]))
    return lambda blocks, count: heard.turns(count)


def told(talk: Conversation, voices: Diariser, count: int | None) -> list[tuple[float, float, str]]:
    """Finds who speaks when, by voice."""
    return turns(analyze((talk.mono, SAMPLE_RATE), Listener(), speakers=voices, count=count))


def right_share(talk: Conversation, found: Timeline) -> dict[str, float]:
    """Share of the time with a single speaker in which the emotion is predicted correctly."""
    right, total = Counter[str](), Counter[str]()
    count = round(len(talk.sound) / SAMPLE_RATE / STEP)
    truth = np.full((len(talk.speakers), count), "", object)
    for said in talk.said:
        truth[talk.speakers.index(said.speaker), _part(said.start, said.end)] = said.emotion
    alone = (truth != "").sum(0) == 1
    guess = np.full(count, "", object)
    for s in found.segments:
        best = max(s.probabilities, key=lambda name: s.probabilities[name])
        guess[_part(s.start, s.end)] = best
    for place in np.flatnonzero(alone & (guess != "")):
        who, label = next((k, word) for k, word in enumerate(truth[:, place]) if word)
        if label in found.labels:
            total[talk.speakers[who]] += 1
            right[talk.speakers[who]] += label == guess[place]
    return {speaker: right[speaker] / total[speaker] for speaker in total}


def main() -> None:
    """Prints the tables."""
    given = _arguments()
    rows = [row for file in given.manifest for row in read_manifest(file)]
    if given.speakers:
        wanted = set(given.speakers.read_text().split())
        rows = [row for row in rows if str(row.speaker) in wanted]
    predictor = load("starter") if given.emotions else None
    print(f"{len(rows)} recordings of {len({row.speaker for row in rows})} speakers")
    for number in given.of:
        talks = conversations(rows, number, 60 * given.minutes, given.count, seed=number)
        voices = [by_voice(talk) for talk in talks]
        _report(number, talks, voices)
        if predictor is not None:
            _emotions(predictor, talks, voices, given.ways)


def _report(number: int, talks: Sequence[Conversation], voices: Sequence[Diariser]) -> None:
    for name, count in (("known", number), ("not known", None)):
        found = [told(talk, one, count) for talk, one in zip(talks, voices, strict=True)]
        plain = [error(talk, turns_, 0.0) for talk, turns_ in zip(talks, found, strict=True)]
        wide = [error(talk, turns_, COLLAR) for talk, turns_ in zip(talks, found, strict=True)]
        parts = ", ".join(
            f"{part} {100 * np.mean([getattr(one, part) for one in plain]):.1f}"
            for part in Error._fields
        )
        speakers = " ".join(str(len({who for *_, who in turns_})) for turns_ in found)
        print(
            f"{number} speakers, number {name}: DER {100 * np.mean([e.rate for e in plain]):.1f} %"
            f" ({parts}); collar 0.25 s {100 * np.mean([e.rate for e in wide]):.1f} %; "
            f"found {speakers}",
            flush=True,
        )
    apart = [turns(analyze((talk.sound, SAMPLE_RATE), Listener())) for talk in talks]
    wide = [error(talk, turns_, COLLAR) for talk, turns_ in zip(talks, apart, strict=True)]
    confused = 100 * np.mean([e.confused for e in wide])
    print(
        f"{number} speakers, a channel each: DER with collar "
        f"{100 * np.mean([e.rate for e in wide]):.1f} %, of it confused {confused:.1f} %",
        flush=True,
    )


def _emotions(
    predictor: Predictor, talks: Sequence[Conversation], voices: Sequence[Diariser], wanted: str
) -> None:
    ways = ("mixed", "by voice", "by channel", "mixed, adapted",
            "by voice, each speaker's baseline", "by channel, each speaker's baseline")  # fmt: skip
    for name in (way for way in ways if wanted in way):
        shares = []
        for talk, by in zip(talks, voices, strict=True):
            how: dict[str, Any] = {"adapt": "baseline" in name or "adapted" in name}
            how |= {"speakers": by, "count": len(talk.speakers)} if "voice" in name else {}
            sound, channels = (talk.sound, "each") if "channel" in name else (talk.mono, "mix")
            found = analyze((sound, SAMPLE_RATE), predictor, channels=channels, **how)
            shares.append(right_share(talk, found))
        parts = ", ".join(
            f"{speaker} {100 * np.mean([one[speaker] for one in shares if speaker in one]):.0f}"
            for speaker in sorted({speaker for one in shares for speaker in one})
        )
        mean = 100 * np.mean([np.mean(list(one.values())) for one in shares])
        print(f"  emotion right, {name}: {mean:.1f} % of each speaker's time ({parts})", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, nargs="+", required=True)
    parser.add_argument("--speakers", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--of", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--count", type=int, default=2, help="conversations of each kind")
    parser.add_argument("--emotions", action="store_true")
    parser.add_argument("--ways", default="", help="only rows named so, such as channel")
    return parser.parse_args()


if __name__ == "__main__":
    main()
