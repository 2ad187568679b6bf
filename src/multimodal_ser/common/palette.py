"""labels → colours: one place that says which colour an emotion has, on light and on dark ground.

The seven common emotions stay apart (OKLab distance 0.08 or more) for normal sight and for
protanopia, deuteranopia and tritanopia; a test measures it. Colour never stands alone: wherever it
is used, the word stands beside it.
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
SAME: dict[str, str] = {  # other words for the same emotion; attributes, and where they lie
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
    """The colour of a class as ``#rrggbb``; a class unknown here always gets the same spare one.

    Args:
        label: a class name, such as ``"anger"`` or ``"angry"``; case does not matter.
        dark: for dark ground instead of light.

    >>> colour("anger"), colour("Angry", dark=True)
    ('#b02a17', '#e0492a')
    """
    table = DARK if dark else COLOURS
    word = label.strip().lower()
    word = SAME.get(word, word)
    if word not in table:
        spare = ("excitement", "frustration", "boredom", "calm", "contempt")
        word = spare[zlib.crc32(word.encode()) % len(spare)]
    return table[word]
