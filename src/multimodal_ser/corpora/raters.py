"""Counts the votes of an utterance's raters: how many chose which emotion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

Raters = dict[str, dict[str, Any]]
"""Rater → ``emotion`` (a list of words), ``second`` (secondary words), a level,
arousal, valence, dominance. It is stored as ``raters`` in an utterance's ``extra``."""


def votes_of(answers: Iterable[Mapping[str, Any]]) -> dict[str, int | float]:
    """Counts one vote per rater; a rater who chose several words gives each an equal share.

    Args:
        answers: each rater's answer, such as the values of `Raters`.

    >>> votes_of([{"emotion": ["neu"]}, {"emotion": ["neu", "ang"]}, {"arousal": 3.0}])
    {'neu': 1.5, 'ang': 0.5}
    """
    votes: dict[str, float] = defaultdict(float)
    for answer in answers:
        words = dict.fromkeys(answer.get("emotion", ()))
        for word in words:
            votes[word] += 1 / len(words)
    return {word: int(n) if n.is_integer() else round(n, 6) for word, n in votes.items()}


def means_of(answers: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, float]:
    """Returns the mean of each number, such as arousal, over the raters who gave it.

    >>> means_of([{"arousal": 3.0}, {"arousal": 4.0}, {"emotion": ["neu"]}], ["arousal", "valence"])
    {'arousal': 3.5}
    """
    given = list(answers)
    found = {name: [one[name] for one in given if name in one] for name in names}
    return {name: fmean(values) for name, values in found.items() if values}


def most_chosen(votes: Mapping[str, float]) -> str | None:
    """Returns the word that most raters chose; None for a tie or without votes.

    >>> most_chosen({"joy": 2, "anger": 1}), most_chosen({"joy": 1, "anger": 1})
    ('joy', None)
    """
    first = [word for word, count in votes.items() if count == max(votes.values())]
    return first[0] if len(first) == 1 else None
