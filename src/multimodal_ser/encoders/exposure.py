"""What each encoder's training saw of each corpus, claim by claim with its source.

``exposure.json`` holds the claims. They are about the weights that an encoder's authors publish:
those of a known hash, or from the authors' own page on the hub. Of all other weights, whatever the
folder is called, nothing is known: they may have been trained further, on any corpus and labels.

``no`` means: the authors list what they trained on, and the corpus is not in it. Lists of web
text or sound that nobody can look through are ``unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from multimodal_ser.common.files import parse_json
from multimodal_ser.encoders.base import UNDECLARED, EncoderInfo, Exposure, Saw
from multimodal_ser.encoders.weights import Weights
from multimodal_ser.errors import EncoderError, FeatureError

DECLARED_CORPORA = ("iemocap", "cremad", "meld", "emodb", "ravdess")
HOLDS = {"emodb2": "emodb"}  # what saw the second saw most of the first
TUNED_ON = "tuned_on.json"
FILE = Path(__file__).with_name("exposure.json")


@dataclass(frozen=True)
class Seen:
    """What a training saw.

    Attributes:
        corpora: corpus name → what it saw of it; ``*`` is every corpus that is not named.
        emotion_labels: whether it saw emotion labels, of whatever corpus.
    """

    corpora: Mapping[str, Exposure] = field(default_factory=dict)
    emotion_labels: Exposure = UNDECLARED


@dataclass(frozen=True)
class Claims:
    """What is known of one encoder's published weights.

    Attributes:
        name: key in ENCODERS; empty where the encoder has none.
        hub: its page; empty where nothing is published.
        sha256: hashes of weights files that are known to be these.
        seen: what their training saw.
    """

    name: str
    hub: str
    sha256: tuple[str, ...]
    seen: Seen


@cache
def claims() -> tuple[Claims, ...]:
    """All claims of ``exposure.json``."""

    def of(entry: Mapping[str, Any]) -> Claims:
        corpora = {name: Exposure(**claim) for name, claim in entry["corpora"].items()}
        corpora = {**dict.fromkeys(DECLARED_CORPORA, corpora["*"]), **corpora}
        seen = Seen(corpora, Exposure(**entry["emotion_labels"]))
        return Claims(entry["name"], entry["hub"], tuple(entry["sha256"]), seen)

    return tuple(of(entry) for entry in parse_json(FILE.read_text("utf-8"))["encoders"])


def published(name: str) -> Seen:
    """What the published weights of a named encoder saw; nothing is known of other names."""
    return next((one.seen for one in claims() if name and one.name == name), Seen())


def seen_by(name: str, weights: Weights) -> Seen:
    """What the training of these weights saw.

    Args:
        name: key in ENCODERS, or what the encoder is called.
        weights: what `resolve` found.
    """
    for one in claims():
        if weights.sha256 in one.sha256 or (one.hub and weights.hub == one.hub):
            return one.seen
    known = published(name)
    tuned = _tuned_on(weights.folder / TUNED_ON)
    where = (
        f"the weights {weights.sha256[:12]} are none that are known here: a local folder or "
        "another page of the hub"
    )

    def doubted(claim: Exposure) -> Exposure:  # never cleaner than by its name
        return Exposure(
            "labels" if claim.saw == "labels" else "unknown",
            f"{where}; the published {name}: {_SAYS[claim.saw]} ({claim.source})",
        )

    corpora = {corpus: doubted(claim) for corpus, claim in known.corpora.items()}
    if not corpora:
        corpora = dict.fromkeys(("*", *DECLARED_CORPORA), Exposure("unknown", where))
    labels = doubted(known.emotion_labels)
    for claim in tuned.values():
        labels = claim
    return Seen({**corpora, **tuned}, labels)


def info_of(
    name: str,
    modality: Literal["audio", "text"],
    weights: Weights,
    layers: Sequence[int],
    *,
    width: int,
    rate: float,
    pool: Literal["mean", "first"] = "mean",
) -> EncoderInfo:
    """What an encoder of these weights says of itself.

    Args:
        name: key in ENCODERS, or what the encoder is called.
        modality: what it reads.
        weights: what `resolve` found.
        layers: those that stand side by side.
        width: of one layer.
        rate: frames a second; 0 for words.
        pool: what one vector of an item is.
    """
    seen = seen_by(name, weights)
    return EncoderInfo(
        name=name,
        modality=modality,
        dim=len(layers) * width,
        rate=rate,
        weights=weights.sha256,
        layers=",".join(map(str, layers)),
        exposure=seen.corpora,
        pool=pool,
        emotion_labels=seen.emotion_labels,
    )


def write_tuned_on(folder: Path, corpora: Sequence[str], labels: str) -> None:
    """Notes beside weights on which corpora's emotions they were fine-tuned.

    Args:
        folder: of the weights.
        corpora: their names.
        labels: the class set.
    """
    text = json.dumps({"corpora": list(corpora), "labels": labels}, indent=1)
    (folder / TUNED_ON).write_text(text + "\n", encoding="utf-8")


def _tuned_on(file: Path) -> dict[str, Exposure]:
    """What `write_tuned_on` noted: it makes weights less clean, never cleaner."""
    if not file.is_file():
        return {}
    try:
        said = parse_json(file.read_text("utf-8"))
        source = f"{TUNED_ON} beside the weights: fine-tuned on the labels {said['labels']!s}"
        return {str(name): Exposure("labels", source) for name in said["corpora"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{file} cannot be read ({error!r}); fetch it again") from error


def claim_about(corpus: str, exposure: Mapping[str, Exposure]) -> Exposure | None:
    """What is claimed of a corpus: by its name, by that of one that it holds, or of all others."""
    return exposure.get(corpus) or exposure.get(HOLDS.get(corpus, "")) or exposure.get("*")


def stated(items: Sequence[str]) -> Seen:
    """What a user says that a training saw.

    Args:
        items: ``CORPUS=SAW`` each, ``*=SAW`` for every other corpus, and ``emotions=no`` or
            ``emotions=labels`` for emotion labels of whatever corpus.

    Raises:
        FeatureError: an item is of another form.

    >>> stated(["meld=labels"]).emotion_labels.saw
    'labels'
    """
    found = {}
    for item in items:
        corpus, _, saw = item.partition("=")
        if not corpus or saw not in get_args(Saw):
            raise FeatureError(
                f"--trained-on {item!r}; write CORPUS=SAW, where SAW is one of "
                f"{', '.join(get_args(Saw))}, such as meld=labels; emotions=no says that no "
                "emotion labels were used"
            )
        found[corpus] = Exposure(cast(Saw, saw), "stated by the user (--trained-on)")
    any_labels = next((claim for claim in found.values() if claim.saw == "labels"), UNDECLARED)
    labels = found.pop("emotions", any_labels)
    return Seen(found, any_labels if any_labels.saw == "labels" else labels)


def with_stated(info: EncoderInfo, items: Sequence[str]) -> EncoderInfo:
    """An encoder's information with what its user says of its training, where nobody else does.

    Raises:
        EncoderError: it is known already what its training saw.
    """
    if not items:
        return info
    said = stated(items)
    if info.emotion_labels.saw != "unknown":
        raise EncoderError(
            f"--trained-on: what {info.name} saw is known already "
            f"({info.emotion_labels.source}); leave --trained-on out"
        )
    corpora = {**info.exposure, **said.corpora}
    return replace(info, exposure=corpora, emotion_labels=said.emotion_labels)


def refuse_emotion_trained(name: str, claim: Exposure) -> None:
    """Raises EncoderError unless it is known that no emotion labels were used."""
    if claim.saw in ("no", "unlabelled"):
        return
    what = (
        "was trained on emotion labels"
        if claim.saw == "labels"
        else "may have been trained on emotion labels: nothing is known"
    )
    remedy = (
        "take another encoder"
        if claim.saw == "labels"
        else "take its weights from their authors' page on the hub, or, if you know it, say so "
        "when extracting with --trained-on emotions=no"
    )
    raise EncoderError(
        f"{name} {what} ({claim.source}), which --forbid-emotion-trained refuses; {remedy}"
    )


_SAYS = {
    "labels": "saw emotion labels",
    "unlabelled": "saw it without labels",
    "no": "did not",
    "unknown": "may have",
}
