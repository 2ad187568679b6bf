"""The colour of every emotion, on light and on dark backgrounds.

The seven common emotions stay distinguishable (OKLab distance of 0.08 or more) with normal vision,
protanopia, deuteranopia and tritanopia; a test measures it. Colour is never the only cue: the
emotion's name is always written next to it.
"""

from __future__ import annotations

import zlib

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
# Synonyms, and attributes and their poles mapped to the emotion in that region of the
# arousal-valence plane.
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
    "arousal": "anger",
    "valence": "sadness",
    "dominance": "frustration",
}


def colour(label: str, *, dark: bool = False) -> str:
    """Returns the colour of a class as ``#rrggbb``; unknown classes always get the same spare one.

    Args:
        label: a class name, such as ``"anger"`` or ``"angry"``; case does not matter.
        dark: for a dark background instead of a light one.

    >>> colour("anger"), colour("Angry", dark=True)
    ('#b02a17', '#e0492a')
    """
    table = DARK if dark else COLOURS
    word = label.strip().lower()
    word = SAME.get(word, word)
    if word not in table:
        # CRC-32 and not `hash`, whose value for a text differs from process to process
        spare = ("excitement", "frustration", "boredom", "calm", "contempt")
        word = spare[zlib.crc32(word.encode()) % len(spare)]
    return table[word]
