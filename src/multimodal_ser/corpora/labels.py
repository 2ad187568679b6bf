"""Maps each corpus's own emotion words to classes: the only place where emotions get numbers.

A class's id is its position in its class set's tuple. Nothing outside this module defines an
integer label, so two corpora can never disagree about the meaning of a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from multimodal_ser.common.spelling import alike, is_missing
from multimodal_ser.errors import LabelError, one_of

_IEMOCAP_6 = {
    "hap": "happiness",
    "sad": "sadness",
    "neu": "neutral",
    "ang": "anger",
    "exc": "excitement",
    "fru": "frustration",
}
_IEMOCAP_4_HAP = {"ang": "anger", "hap": "happiness", "neu": "neutral", "sad": "sadness"}
# the usual four-class task merges excitement into happiness, which alone has few utterances
_IEMOCAP_4 = {**_IEMOCAP_4_HAP, "exc": "happiness"}
_CREMAD_4 = {"ANG": "anger", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
_CREMAD_6 = {**_CREMAD_4, "DIS": "disgust", "FEA": "fear"}
_MELD_4 = {"anger": "anger", "joy": "happiness", "neutral": "neutral", "sadness": "sadness"}
MELD_7 = {
    word: word for word in ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
}
_EMODB_4 = {"W": "anger", "F": "happiness", "N": "neutral", "T": "sadness"}
_EMODB_7 = {**_EMODB_4, "L": "boredom", "E": "disgust", "A": "fear"}
_RAVDESS_4 = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
_RAVDESS_8 = {
    **_RAVDESS_4,
    "calm": "calm",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}


# Spellings of emotion words in corpora, by the word that class sets share.
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
_SEXES = {
    "male": "m man men mann männlich homme masculin hombre masculino uomo maschio",
    "female": "f w woman women frau weiblich femme féminin mujer femenino donna femmina",
}
_SEX = {spelt: word for word, spellings in _SEXES.items() for spelt in [word, *spellings.split()]}
_SHARED = {
    spelt: word for word, spellings in _SPELLINGS.items() for spelt in [word, *spellings.split()]
}

# What predictions have in place of a class; a class of that name could not be told from it.
OTHER_LABELS = ("uncertain", "no speech", "failed")


@dataclass(frozen=True)
class ClassSet:
    """An ordered tuple of classes and, per corpus, which of its words means which class.

    A corpus that is not built in (such as a user's table) uses the class names themselves; other
    case, accents and spaces are the same name.

    Attributes:
        name: the name that commands, feature files and runs use.
        classes: class names; a class's id is its place here.
        words: corpus → its own word → class. Utterances with other words are left out.

    Raises:
        LabelError: a corpus's words do not cover every class, or map to an unknown class; or a
            class has a comma, or a label that predictions have for what is of no class.
    """

    name: str
    classes: tuple[str, ...]
    words: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise LabelError(f"class set {self.name!r} needs two or more distinct classes")
        for name in self.classes:
            if alike(name) in map(alike, OTHER_LABELS) or "," in name:
                raise LabelError(
                    f"class set {self.name!r} has a class {name!r}; predictions have "
                    f"{', '.join(OTHER_LABELS)} for what is of no class, and commas separate "
                    "classes: give it another name in the corpus, such as unclear, or leave it out"
                )
        for corpus, words in self.words.items():
            self._check_words(corpus, words, words.values())

    def _check_words(self, corpus: str, words: Iterable[str], reached: Iterable[str]) -> None:
        reached = sorted(set(reached))
        if reached != sorted(self.classes):
            raise LabelError(
                f"class set {self.name!r} has the classes {list(self.classes)}, but the words of "
                f"{corpus!r}, {sorted(set(words))}, reach {reached}; pick a class set made for "
                "this corpus, or name your own as a comma list of its words in the order you "
                f"want, such as --labels {','.join(reached if reached[1:] else self.classes[:2])}"
            )

    def class_of(self, corpus: str, word: str) -> str | None:
        """Returns the class of a corpus's word, or None if the set leaves it out.

        Raises:
            LabelError: the set has no mapping for this built-in corpus.

        >>> CLASS_SETS["iemocap4"].class_of("iemocap", "exc")
        'happiness'
        """
        if corpus in self.words:
            return self.words[corpus].get(word)
        if corpus in BUILT_IN_CORPORA:
            fitting = {name: known for name, known in CLASS_SETS.items() if corpus in known.words}
            classes = sorted({one for known in fitting.values() for one in known.classes})
            raise LabelError(
                f"class set {self.name!r} {list(self.classes)} does not say what the words of "
                f"{corpus!r} mean; {one_of('class set for it', self.name, fitting)}; or list some "
                f"of the classes of one: {', '.join(classes)}"
            )
        if word in self.classes:
            return word
        near = [name for name in self.classes if alike(name) == alike(word)]
        return near[0] if len(near) == 1 else None

    def check_covers(self, corpus: str, words: Iterable[str]) -> None:
        """Raises LabelError if the words that occur in a corpus do not cover all classes."""
        class_of = {word: self.class_of(corpus, word) for word in words}
        self._check_words(corpus, class_of, [name for name in class_of.values() if name])


_FOUR = "anger happiness neutral sadness"  # the original's order for IEMOCAP, CREMA-D and MELD

CLASS_SETS: dict[str, ClassSet] = {
    name: ClassSet(name, tuple(classes.split()), words)
    for name, classes, words in (
        ("iemocap4", _FOUR, {"iemocap": _IEMOCAP_4}),
        ("iemocap4-hap", _FOUR, {"iemocap": _IEMOCAP_4_HAP}),
        (
            "iemocap6",
            "happiness sadness neutral anger excitement frustration",
            {"iemocap": _IEMOCAP_6},
        ),
        ("cremad4", _FOUR, {"cremad": _CREMAD_4}),
        ("cremad6", "anger disgust fear happiness neutral sadness", {"cremad": _CREMAD_6}),
        ("meld4", _FOUR, {"meld": _MELD_4}),
        ("meld7", "anger disgust fear joy neutral sadness surprise", {"meld": MELD_7}),
        ("emodb7", "anger boredom disgust fear happiness neutral sadness", {"emodb": _EMODB_7}),
        (
            "ravdess8",
            "neutral calm happiness sadness anger fear disgust surprise",
            {"ravdess": _RAVDESS_8},
        ),
        (
            "common4",
            _FOUR,
            {
                "iemocap": _IEMOCAP_4,
                "cremad": _CREMAD_4,
                "meld": _MELD_4,
                "emodb": _EMODB_4,
                "ravdess": _RAVDESS_4,
            },
        ),
        (
            "common6",
            "anger disgust fear happiness neutral sadness",
            {
                "cremad": _CREMAD_6,
                "emodb": {word: name for word, name in _EMODB_7.items() if name != "boredom"},
                "ravdess": {
                    word: name
                    for word, name in _RAVDESS_8.items()
                    if name not in ("calm", "surprise")
                },
            },
        ),
    )
}
BUILT_IN_CORPORA = frozenset(CLASS_SETS["common4"].words)


def class_set(name: str) -> ClassSet:
    """Finds a class set by name, or makes one from a comma-separated list in its order.

    For each corpus, the words of the classes are those of the first class set that has all of them:
    in a list for IEMOCAP, happiness includes excitement as in iemocap4, unless the list has
    excitement too.

    Raises:
        LabelError: the name is unknown and contains no comma.

    >>> class_set("joy,anger").classes
    ('joy', 'anger')
    >>> class_set("sadness,anger").words["emodb"]
    {'W': 'anger', 'T': 'sadness'}
    """
    if "," in name:
        classes = tuple(part.strip() for part in name.split(",") if part.strip())
        words: dict[str, Mapping[str, str]] = {}
        for known in CLASS_SETS.values():
            if {*classes} <= {*known.classes}:
                for corpus, own in known.words.items():
                    chosen = {word: one for word, one in own.items() if one in classes}
                    words.setdefault(corpus, chosen)
        return ClassSet(",".join(classes), classes, words)
    if name not in CLASS_SETS:
        raise LabelError(
            one_of("class set", name, CLASS_SETS)
            + "; or give your own as a comma list in the order you want, such as anger,neutral"
        )
    return CLASS_SETS[name]


def check_same_order(first: Any, second: Any) -> None:
    """Raises LabelError, showing both orders, unless two class sets number classes the same."""
    if first.classes != second.classes:
        raise LabelError(
            f"class sets disagree: {first.name!r} is {list(first.classes)}, "
            f"{second.name!r} is {list(second.classes)}; use one class set for both, such as "
            "common4"
        )


def sex_of(cell: object) -> str:
    """Names a sex, which corpora write in many ways; empty if it is unknown.

    >>> [sex_of(cell) for cell in ("F", "Male", "NA", None, "Unknown", "other")]
    ['female', 'male', '', '', '', 'other']
    """
    text = str(cell or "").strip()
    word = text.casefold()
    return "" if is_missing(text) or word == "unknown" else _SEX.get(word, word)


def shared_word(word: str) -> str:
    """Returns the shared word for a spelling; any other word in lower case.

    >>> shared_word("Angry"), shared_word("neutral"), shared_word("Pride")
    ('anger', 'neutral', 'pride')
    """
    small = word.strip().casefold()
    return _SHARED.get(small.replace(" ", "_"), small)


def is_emotion(word: str) -> bool:
    """Whether a word is an emotion word, in any spelling.

    >>> is_emotion("Angry"), is_emotion("Actor_01")
    (True, False)
    """
    return word.strip().casefold().replace(" ", "_") in _SHARED
