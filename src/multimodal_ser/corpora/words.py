"""Maps the spellings of emotion words in corpora to the words that class sets share."""

from __future__ import annotations

_SPELLINGS = {
    "anger": "angry ang angr fury rage",
    "disgust": "disgusted dis disg",
    "fear": "fearful fea scared afraid",
    "happiness": "happy hap joy joyful",
    "neutral": "neu neutrality neutral_state",
    "sadness": "sad",
    "surprise": "surprised sur surp",
    "calm": "calmness",
    "contempt": "contemptuous",
    "excitement": "excited exc",
    "frustration": "frustrated fru",
    "boredom": "bored bor",
    "amusement": "amused",
    "sleepiness": "sleepy",
    "anxiety": "anxious",
    "concern": "concerned",
    "enthusiasm": "enthusiastic",
    "disappointment": "disappointed",
    "other": "oth others",
    "no agreement": "no_agreement no-agreement xxx",
}
_SHARED = {
    spelt: word for word, spellings in _SPELLINGS.items() for spelt in [word, *spellings.split()]
}


def shared_word(word: str) -> str:
    """Returns the shared word for a spelling; any other word in lower case.

    >>> shared_word("Angry"), shared_word("neutral"), shared_word("Pride")
    ('anger', 'neutral', 'pride')
    """
    small = word.strip().casefold()
    return _SHARED.get(small.replace(" ", "_"), small)


def known(word: str) -> bool:
    """Whether a word is an emotion word, in any spelling.

    >>> known("Angry"), known("Actor_01")
    (True, False)
    """
    return word.strip().casefold().replace(" ", "_") in _SHARED
