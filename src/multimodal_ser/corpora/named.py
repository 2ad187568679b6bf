"""Reads corpora whose file names contain all labels; ``corpora.json`` has their patterns.

Emotions are given in the words that class sets share (``anger``, ``happiness``, …); the corpus's
own code stays in ``extra``. So ``common4``, ``common6`` and any list of classes work without a
table of words. Layouts are those of the corpora's releases; folders above the files do not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multimodal_ser.common.files import files_below
from multimodal_ser.corpora import base
from multimodal_ser.corpora.labels import shared_word
from multimodal_ser.corpora.utterance import Corpus, Utterance

_SUFFIXES = (*base.SOUND, ".aiff", ".aif", ".m4a")


@dataclass(frozen=True)
class Named:
    r"""The naming scheme of a corpus's files.

    Attributes:
        title: the corpus's own name.
        pattern: regular expression for the end of a path without its suffix, in capitals or small
            letters. Its groups are ``speaker``, ``emotion`` (a key of `words`), ``sentence`` (a key
            of `texts`), ``split`` (the official part) and others, which are kept in ``extra``; all
            groups but ``split`` together make the id.
        words: code of an emotion, in lower case → class; in ``corpora.json``, ``a=anger sad …``.
        people: a speaker, or the beginning of several speakers' names → ``sex`` or ``sex:age``.
        texts: sentence → its words.
        same: another spelling of a speaker, in capitals → the speaker.
    """

    title: str
    pattern: str
    words: Mapping[str, str]
    people: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    same: Mapping[str, str] = field(default_factory=dict)


def read_named(name: str, known: Named, root: Path) -> Corpus:
    """Reads every recording below `root` whose name matches the corpus's pattern.

    Args:
        name: the corpus's name in commands and ids.
        known: its naming scheme.
        root: the corpus's folder, or any folder above it.

    Raises:
        SerError: no such folder, or no recording of the corpus in it.
    """
    root = base.require_folder(Path(root), known.title)
    pattern = re.compile(rf"(?:^|/){known.pattern}$", re.IGNORECASE)
    found: list[Utterance | str] = []
    for path in files_below(root):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        # With the root's own name: a user may give one speaker's or one emotion's folder.
        inside = Path(root.resolve().name) / path.relative_to(root)
        parts = pattern.search(inside.with_suffix("").as_posix())
        word = known.words.get(parts["emotion"].lower()) if parts else None
        reason = base.fault(path)
        if parts is None:
            reason = f"not named as {known.title} names its recordings"
        elif word is None:
            reason = f"emotion {parts['emotion']!r} is none of {', '.join(sorted(known.words))}"
        if parts is None or word is None or reason:
            found.append(f"{name}/{path.relative_to(root).as_posix()}: {reason}")
        else:
            found.append(_utterance(name, known, path, parts.groupdict(), word))
    return base.finish(known.title, root, found)


def _utterance(
    name: str, known: Named, path: Path, found: Mapping[str, str | None], word: str
) -> Utterance:
    given = {key: value for key, value in found.items() if value}
    part = given.pop("split", "").lower()
    speaker = given.get("speaker")
    speaker = known.same.get(speaker.upper(), speaker) if speaker else None
    extra: dict[str, Any] = {"code": given["emotion"], **_person(known, speaker)}
    extra |= {key: value for key, value in given.items() if key not in ("speaker", "emotion")}
    return Utterance(
        id=f"{name}/{'_'.join(given.values())}",
        corpus=name,
        emotion=word,
        audio=str(path),
        text=known.texts.get(given.get("sentence", "")),
        speaker=speaker,
        split={"evaluation": "dev"}.get(part, part) or None,
        extra=extra,
    )


def _person(known: Named, speaker: str | None) -> dict[str, Any]:
    """Returns sex and age of a speaker, if the corpus gives them."""
    small = (speaker or "").lower()
    fitting = [start for start in known.people if small.startswith(start.lower())]
    # the longest beginning counts: an entry for one speaker goes before one for several
    return base.person(known.people[max(fitting, key=len)]) if fitting else {}


def emotions(text: str) -> dict[str, str]:
    """Codes of emotions → classes, in the words that class sets share.

    >>> emotions("a=anger d=disgust sad")
    {'a': 'anger', 'd': 'disgust', 'sad': 'sadness'}
    """
    pairs = (pair.split("=") for pair in text.split())
    return {pair[0]: shared_word(pair[-1]) for pair in pairs}
