"""The colour of every emotion, on light and on dark backgrounds.

The seven common emotions stay distinguishable (OKLab distance of 0.08 or more) with normal vision,
protanopia, deuteranopia and tritanopia; a test measures it. Colour is never the only cue: the
emotion's name is always written next to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

COLOURS: dict[str, str] = {
    "anger": "#b02a17",
    "happiness": "#c98500",
    "neutral": "#8a929c",
    "sadness": "#2f8fe6",
    "disgust": "#0f6e5c",
    "fear": "#4d1a99",
    "surprise": "#bd3f9e",
    "excitement": "#d9601a",
    "frustration": "#7c4a2d",
    "boredom": "#6b7a2a",
    "calm": "#2a9bab",
    "contempt": "#8d5a86",
    "other": "#5f6873",
    "uncertain": "#767d87",
}
DARK: dict[str, str] = {
    "anger": "#e0492a",
    "happiness": "#efb93a",
    "neutral": "#cdd3dc",
    "sadness": "#5f9cf8",
    "disgust": "#1f9a76",
    "fear": "#8a5ce0",
    "surprise": "#ee74b2",
    "excitement": "#f58b4c",
    "frustration": "#b98263",
    "boredom": "#a9b85c",
    "calm": "#63c6d4",
    "contempt": "#bd8cb6",
    "other": "#98a2ae",
    "uncertain": "#8b93a0",
}
# For classes of other names, in this order where labels shown together would have the same colour.
SPARE = ("excitement", "frustration", "boredom", "calm", "contempt", "surprise", "other")
_ATTRIBUTES = {"arousal": "surprise", "valence": "boredom", "dominance": "contempt"}
# Synonyms, and regions of the arousal-valence plane, which have the colour of the emotion there.
SAME: dict[str, str] = {
    "angry": "anger",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "disgusted": "disgust",
    "fearful": "fear",
    "surprised": "surprise",
    "excited": "excitement",
    "frustrated": "frustration",
    "bored": "boredom",
    "unknown": "uncertain",
    "active negative": "anger",
    "active positive": "happiness",
    "passive negative": "sadness",
    "passive positive": "calm",
    "active": "excitement",
    "passive": "calm",
    "negative": "sadness",
    "positive": "happiness",
    "dominant": "excitement",
    "submissive": "calm",
}


def colour(label: str, *, dark: bool = False) -> str:
    """Returns the colour of a class as ``#rrggbb``; unknown classes always get the same spare one.

    Args:
        label: a class name, such as ``"anger"`` or ``"angry"``; case does not matter.
        dark: for a dark background instead of a light one.

    >>> colour("anger"), colour("Angry", dark=True)
    ('#b02a17', '#e0492a')
    """
    return (DARK if dark else COLOURS)[_entry(label)]


def colours(labels: Iterable[str], regions: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """The colours, on light and on dark, of labels that are shown together: all different.

    Args:
        labels: classes and attributes; more than the palette has share colours.
        regions: of the arousal-valence plane; they share the colours of emotions.

    >>> colours(["anger", "angry"])
    {'anger': ('#b02a17', '#e0492a'), 'angry': ('#d9601a', '#f58b4c')}
    """
    entries: dict[str, str] = {}
    # labels of the palette keep their colours, wherever they stand among others
    for label in sorted(dict.fromkeys(labels), key=lambda one: one.strip().lower() not in COLOURS):
        entry, taken = _entry(label), set(entries.values())
        free = [one for one in (entry, *SPARE, *COLOURS) if one not in taken]
        entries[label] = free[0] if free else entry
    entries = {**{label: _entry(label) for label in regions}, **entries}
    return {label: (COLOURS[entry], DARK[entry]) for label, entry in entries.items()}


def _entry(label: str) -> str:
    """The palette's name for the colour of a label."""
    word = label.strip().lower()
    word = _ATTRIBUTES.get(word) or SAME.get(word, word)
    # CRC-32 and not `hash`, whose value for a text differs from process to process
    return word if word in COLOURS else SPARE[zlib.crc32(word.encode()) % 5]
