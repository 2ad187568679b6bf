"""Makes up features of the sizes of IEMOCAP and CREMA-D, as material and split.

One token per modality, 1024 wide for audio and 768 for text, as in the original. An utterance's
features depend on its class, its speaker, how this speaker expresses this class, and chance: a
point in a few dimensions, transformed nonlinearly, mixed into all dimensions, with noise added.
Part of the labels is wrong, because raters disagree. The second corpus has other speakers and its
own scale and offset for every feature, expresses the classes somewhat differently, and its words
carry no information, as if all speakers said the same sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.dataset.material import Material
from multimodal_ser.splits import make_split
from multimodal_ser.splits.folds import Split

Floats = NDArray[np.float64]

DIMS = {"audio": 1024, "text": 768}
LABELS = class_set("common4")


@dataclass(frozen=True)
class Recipe:
    """The sizes of a corpus, and how its features are drawn.

    Attributes:
        corpus: the name in CORPORA whose names of emotions are used.
        words: name of an emotion → number of utterances.
        sessions: name → number of utterances; an empty name stands for no session.
        speakers: number of speakers in each session.
        skill: distance of the classes per modality, in units of the spread within a class.
        shift: distance of the corpus's features from the common ones; 0 for none.
        wrong: share of the utterances whose features belong to another class.
    """

    corpus: str
    words: Mapping[str, int]
    sessions: Mapping[str, int]
    speakers: int
    skill: Mapping[str, float]
    shift: float = 0.0
    wrong: float = 0.15
    latent: int = 48
    speaker_spread: float = 0.6
    noise: float = 1.0


# The field's four classes, sessions and speakers of each; three sessions have 3,259 rows.
IEMOCAP = Recipe(
    "iemocap",
    {"ang": 1103, "hap": 595, "exc": 1041, "neu": 1708, "sad": 1084},
    {"Ses01": 1085, "Ses02": 1023, "Ses03": 1151, "Ses04": 1031, "Ses05": 1241},
    speakers=2,
    skill={"audio": 0.27, "text": 0.20},
)
CREMAD = Recipe(
    "cremad",
    {"ANG": 1271, "HAP": 1271, "NEU": 1087, "SAD": 1271},
    {"": 4900},
    speakers=91,
    skill={"audio": 0.36, "text": 0.0},
    shift=0.5,
)


@dataclass(frozen=True)
class Domain:
    """A corpus in the form that experiments need.

    Attributes:
        material: the features and labels.
        split: the single fold of the original's experiments.
        folds: five folds for cross-validation.
    """

    material: Material
    split: Split
    folds: Split


def domains(seed: int = 0, share: float = 1.0) -> tuple[Domain, Domain]:
    """Makes a source corpus of IEMOCAP's size and a target corpus of CREMA-D's.

    Args:
        seed: of everything drawn.
        share: share of the rows, for a quick run.
    """
    source = make_material(_part(IEMOCAP, share), seed)
    target = make_material(_part(CREMAD, share), seed)
    return (
        Domain(
            source,
            make_split(source.utterances, "iemocap-original"),
            make_split(source.utterances, "session"),
        ),
        Domain(
            target,
            _first_fold(make_split(target.utterances, "speaker", folds=10)),
            make_split(target.utterances, "speaker", folds=5),
        ),
    )


def _part(recipe: Recipe, share: float) -> Recipe:
    """Returns the recipe for a share of the rows; sessions shrink with the number of utterances."""
    words = {word: max(1, round(share * count)) for word, count in recipe.words.items()}
    sessions = {name: max(1, round(share * count)) for name, count in recipe.sessions.items()}
    last = list(sessions)[-1]
    sessions[last] += sum(words.values()) - sum(sessions.values())
    return replace(recipe, words=words, sessions=sessions)


def _first_fold(split: Split) -> Split:
    return replace(split, folds=split.folds[:1])


def make_material(recipe: Recipe, seed: int = 0) -> Material:
    """Makes a corpus's features and labels in memory.

    Args:
        recipe: sizes, and how features are drawn.
        seed: recipes with the same seed share the positions of the classes.
    """
    rows = _utterances(recipe, seed)
    names = [LABELS.class_of(row.corpus, row.emotion) or "" for row in rows]
    label = np.array([LABELS.classes.index(name) for name in names])
    speakers = sorted({row.speaker or "" for row in rows})
    speaker = np.array([speakers.index(row.speaker or "") for row in rows])
    modalities = {
        name: Modality(
            torch.from_numpy(_features(recipe, name, label, speaker, seed)[:, None]),
            torch.ones(len(rows), 1, dtype=torch.bool),
        )
        for name in DIMS
    }
    ids = tuple(row.id for row in rows)
    examples = Examples(ids, modalities["text"], modalities["audio"], torch.from_numpy(label))
    described: dict[str, FeatureSpec | None] = {
        name: _described(name, dim, seed) for name, dim in DIMS.items()
    }
    return Material(rows, examples, LABELS, described, {}, ("the features are made up",), {})


def _utterances(recipe: Recipe, seed: int) -> list[Utterance]:
    """Makes utterances with randomly assigned emotions and sessions, sorted by id."""
    draw = np.random.default_rng([seed, *recipe.corpus.encode()])
    words = [word for word, count in recipe.words.items() for _ in range(count)]
    sessions = [name for name, count in recipe.sessions.items() for _ in range(count)]
    rows = []
    for number, word in enumerate(draw.permutation(words)):
        session = sessions[number]
        rows.append(
            Utterance(
                f"{recipe.corpus}/{number:05d}",
                recipe.corpus,
                str(word),
                speaker=f"{session}s{draw.integers(recipe.speakers):02d}",
                session=session or None,
            )
        )
    return rows


def _features(
    recipe: Recipe, modality: str, label: NDArray[np.int64], speaker: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Makes features, float32 [N, D]."""
    common = np.random.default_rng([seed, DIMS[modality]])  # the same in both corpora
    own = np.random.default_rng([seed, DIMS[modality], *recipe.corpus.encode()])
    wide, classes, dim = recipe.latent, len(LABELS.classes), DIMS[modality]
    means = common.normal(size=(classes, wide))
    mixing = common.normal(size=(wide, dim)) / np.sqrt(wide)
    bent = common.normal(size=(wide, dim)) / np.sqrt(wide)
    means = means + recipe.shift * own.normal(size=means.shape)
    shown = np.where(
        own.random(len(label)) < recipe.wrong, own.integers(classes, size=len(label)), label
    )
    people = int(speaker.max()) + 1
    voice = recipe.speaker_spread * own.normal(size=(people, wide))
    manner = 0.5 * own.normal(size=(people, classes, wide))
    point = recipe.skill[modality] * (means[shown] + manner[speaker, shown])
    point = point + voice[speaker] + own.normal(size=(len(label), wide))
    features = point @ mixing + np.tanh(2 * point) @ bent
    features += recipe.noise * own.standard_normal(features.shape, dtype=np.float32)
    gain = np.exp(recipe.shift * own.normal(size=dim))
    moved: Floats = gain * features + 2 * recipe.shift * own.normal(size=dim)
    return moved.astype(np.float32)


def _described(modality: str, dim: int, seed: int) -> FeatureSpec:
    """Returns the description that a feature file would have."""
    return FeatureSpec(
        f"made-up-{modality}", f"seed {seed}", "1", tokens=1, dim=dim, content=f"made up {seed}"
    )
