"""Summarises a corpus as plain rows, which `ser manifest` prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from multimodal_ser.corpora.base import NOTE
from multimodal_ser.corpora.labels import ClassSet
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import some_of

_NONE = "(none)"


class CorpusRow(NamedTuple):
    """One count.

    Attributes:
        part: what is counted by: ``all``, ``emotion``, ``class``, ``split``, ``speaker``,
            ``audio``, ``left out`` or ``note`` (about what is kept).
        name: the emotion, class, split or speaker; the reason, with some names; or the note.
        total: number of utterances, or of lines for the last two.
    """

    part: str
    name: str
    total: int


def summarise_corpus(corpus: Corpus, labels: ClassSet | None = None) -> list[CorpusRow]:
    """Counts a corpus by emotion word, class, split and speaker, and what was left out and why.

    Args:
        corpus: as a reader returned it.
        labels: a class set to also count by; classes without utterances are listed with 0, and
            words that it leaves out under ``(none)``.

    >>> from multimodal_ser.corpora.utterance import Utterance
    >>> summarise_corpus(Corpus([Utterance("t/a", "t", "joy", speaker="p")], ["t/b: empty"]))[1:]
    ... # doctest: +NORMALIZE_WHITESPACE
    [CorpusRow(part='emotion', name='joy', total=1),
     CorpusRow(part='speaker', name='p', total=1),
     CorpusRow(part='audio', name='no recording', total=1),
     CorpusRow(part='left out', name='empty: t/b', total=1)]
    """
    utterances = corpus.utterances
    rows = [CorpusRow("all", "utterances", len(utterances))]
    rows += _counted("emotion", (row.emotion for row in utterances))
    if labels is not None:
        counts = Counter(labels.class_of(row.corpus, row.emotion) for row in utterances)
        rows += [CorpusRow("class", name, counts[name]) for name in labels.classes]
        rows += [CorpusRow("class", _NONE, counts[None])] if counts[None] else []
    if any(row.split for row in utterances):
        rows += _counted("split", (row.split for row in utterances))
    if any(row.speaker for row in utterances):
        rows += _counted("speaker", (row.speaker for row in utterances))
    if silent := sum(row.audio is None for row in utterances):
        rows.append(CorpusRow("audio", "no recording", silent))
    rows += _reasons([line for line in corpus.left_out if not line.startswith(NOTE)])
    notes = [line.removeprefix(NOTE) for line in corpus.left_out if line.startswith(NOTE)]
    return rows + _counted("note", notes)


def _reasons(left_out: Iterable[str]) -> list[CorpusRow]:
    """Counts lines such as ``t/b: empty`` by their reasons, and names the first ones of each."""
    names_of: dict[str, list[str]] = defaultdict(list)
    for line in left_out:
        name, _, reason = line.partition(": ")
        names_of[reason or line].append(name if reason else "")
    return [
        CorpusRow("left out", f"{reason}: {some_of(names)}" if any(names) else reason, len(names))
        for reason, names in sorted(names_of.items())
    ]


def _counted(part: str, names: Iterable[str | None]) -> list[CorpusRow]:
    counts = Counter(name or _NONE for name in names)
    return [CorpusRow(part, name, counts[name]) for name in sorted(counts)]
