"""Makes three raters of CREMA-D's three panels of listeners, where single votes are not available.

    python benchmarks/panels.py --manifest cremad.jsonl --out panels.jsonl

``summaryTable.csv`` has the most chosen emotion of listeners who were given the voice alone, the
face alone, and both, without counts. Each panel becomes one rater; if its votes tie, each emotion
gets an equal share. Manifests with the votes of single listeners (``finishedResponses.csv`` or
``tabulatedVotes.csv`` in the corpus's folder) do not need this.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest

PANELS = ("voice_vote", "face_vote", "multimodal_vote")
WORDS = {"A": "ANG", "D": "DIS", "F": "FEA", "H": "HAP", "N": "NEU", "S": "SAD"}


def with_panels(row: Utterance) -> Utterance:
    """Returns the utterance with one vote per panel."""
    votes: dict[str, float] = defaultdict(float)
    for panel in PANELS:
        letters = row.extra[panel].split(":")
        for letter in letters:
            votes[WORDS[letter]] += 1 / len(letters)
    return replace(row, votes={word: round(count, 6) for word, count in votes.items()})


def main(words: list[str] | None = None) -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--manifest", type=Path, required=True)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args(words)
    rows = [with_panels(row) for row in read_manifest(given.manifest)]
    write_manifest(rows, given.out)
    print(f"{len(rows)} utterances with the votes of {len(PANELS)} panels: {given.out}")


if __name__ == "__main__":
    main()
