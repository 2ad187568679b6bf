"""utterances → the same, with the words of their dialogue around them for the encoder to read.

Speakers are letters: A is the speaker of the utterance itself, the others follow in the order in
which they appear when going back. So a model learns who answers whom, but no names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.base import InContext
from multimodal_ser.errors import FeatureError


def in_context(rows: Sequence[Utterance], before: int, after: int = 0) -> list[Utterance]:
    """The utterances in their order, with the words of the dialogue around their own words.

    Args:
        rows: utterances of one corpus; those without words are not part of any context.
        before: largest number of utterances of the same dialogue before each.
        after: largest number of utterances after each; predictions then have to wait for them.

    Raises:
        FeatureError: no utterance has a dialogue, or a number is negative.

    >>> said = [("Ann", "Hi!"), ("Bob", "Hello."), ("Ann", "So?")]
    >>> rows = [
    ...     Utterance(f"a/{n}", "a", "joy", text=words, speaker=who, dialogue="d")
    ...     for n, (who, words) in enumerate(said)
    ... ]
    >>> [row.text for row in in_context(rows, 2)]
    ['A: Hi!', 'B: Hi! A: Hello.', 'A: Hi! B: Hello. A: So?']
    """
    if before < 0 or after < 0:
        raise FeatureError(f"a context of {before} and {after} utterances; allowed: 0 or more")
    spoken = [row for row in rows if (row.text or "").strip()]
    dialogues = turns_of(spoken)
    if not dialogues:
        raise FeatureError(
            "--context reads the words of a dialogue, and no utterance has a dialogue and words; "
            "leave it out, or add both to the manifest"
        )
    found = {}
    # An utterance of no dialogue is read as one of a single utterance: encoded like the others.
    for turns in [*dialogues, *([row] for row in spoken if row.dialogue is None)]:
        for place, row in enumerate(turns):
            around = turns[max(0, place - before) : place], turns[place + 1 : place + 1 + after]
            found[row.id] = replace(row, text=_joined(row, *around))
    return [found.get(row.id, row) for row in rows]


def turns_of(rows: Sequence[Utterance]) -> list[list[Utterance]]:
    """The utterances of each dialogue, in the order in which they are said."""
    dialogues: dict[tuple[str, str], list[Utterance]] = defaultdict(list)
    for row in rows:
        if row.dialogue is not None:
            dialogues[row.corpus, row.dialogue].append(row)
    return [sorted(turns, key=_order) for turns in dialogues.values()]


def context_notes(before: int, after: int, what: str = "words") -> list[str]:
    """The note to show beside results that depend on more than the utterance itself.

    >>> context_notes(3, 0)
    ['the words of up to 3 utterances before are read too']
    """
    sides = {"before": before, "after": after}
    amounts = " and ".join(f"up to {n} utterances {side}" for side, n in sides.items() if n)
    return [f"the {what} of {amounts} are read too"] if amounts else []


def _order(row: Utterance) -> tuple[float, list[tuple[int, str]]]:
    """Sort key of a turn: its start time if it is known, then its id with numbers as numbers."""
    start = row.extra.get("dialogue_start", row.start)
    parts = re.findall(r"\d+|\D+", row.id)
    return start or 0.0, [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _joined(row: Utterance, before: Sequence[Utterance], after: Sequence[Utterance]) -> InContext:
    letters = {_who(row): "A"}
    for turn in (*reversed(before), *after):
        letters.setdefault(_who(turn), ascii_uppercase[min(len(letters), len(ascii_uppercase) - 1)])
    words = [[f"{letters[_who(one)]}: {one.text}" for one in side] for side in (before, after)]
    return InContext(" ".join([*words[0], "A: "]), str(row.text), " ".join(["", *words[1]]))


def _who(row: Utterance) -> str:
    """The speaker in whatever spelling; somebody else where none is known."""
    return alike(row.speaker) if row.speaker else row.id
