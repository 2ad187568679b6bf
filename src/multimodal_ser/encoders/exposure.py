"""Contamination: what the training of each encoder saw of each corpus, each claim with its source.

``exposure.json`` holds the claims. They are about the published weights of an encoder: those with
a known hash, or from the authors' own page on the hub. About all other weights, whatever their
folder is called, nothing is known: they may have been trained further, on any corpus and labels.

``no`` means that the authors list their training data and the corpus is not in it. If that data is
text or sound of the web that nobody can look through, the claim is ``unknown``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from multimodal_ser.common.files import parse_json
from multimodal_ser.encoders.base import UNDECLARED, EncoderInfo, Exposure, Saw
from multimodal_ser.encoders.weight_sources import CLAIMS
from multimodal_ser.encoders.weights import Weights
from multimodal_ser.errors import EncoderError, FeatureError, refuse_twice

DECLARED_CORPORA = ("iemocap", "cremad", "meld", "emodb", "ravdess")
_CONTAINS = {"emodb2": "emodb"}  # corpus → a corpus in it: who saw that saw most of the larger one
_TUNED_ON = "tuned_on.json"
_CARD = "README.md"
# Beginnings of classes such as angry, hap or valence; of a sentiment only "neutral" is among them.
_EMOTIONS = ("ang", "hap", "joy", "sad", "neu", "fea", "disg", "surp", "arous", "valen", "dom")
_LEAST_EMOTIONS = 3


@dataclass(frozen=True)
class Seen:
    """What a training saw.

    Attributes:
        corpora: corpus name → what it saw of it; ``*`` is every corpus that is not named.
        emotion_labels: whether it saw emotion labels of any corpus.
    """

    corpora: Mapping[str, Exposure] = field(default_factory=dict)
    emotion_labels: Exposure = UNDECLARED


@dataclass(frozen=True)
class Claims:
    """What is known about the published weights of one encoder.

    Attributes:
        name: key in ENCODERS; empty if the encoder has none.
        hub: its page on the hub; empty if it has none.
        sha256: hashes of its published weights files.
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
        # Corpora that an entry does not name get its claim about all others, explicitly.
        corpora = {**dict.fromkeys(DECLARED_CORPORA, corpora["*"]), **corpora}
        seen = Seen(corpora, Exposure(**entry["emotion_labels"]))
        return Claims(entry["name"], entry["hub"], tuple(entry["sha256"]), seen)

    return tuple(map(of, CLAIMS))


def published(name: str) -> Seen:
    """What the published weights of an encoder saw; for unknown names, nothing is declared."""
    return next((one.seen for one in claims() if name and one.name == name), Seen())


def _seen_by(name: str, weights: Weights) -> Seen:
    """What the training of these weights saw.

    Args:
        name: key in ENCODERS, or another name of the encoder.
        weights: what `resolve` found.
    """
    # By hash or hub page, never by a name, which the user may give to any folder.
    for one in claims():
        if weights.sha256 in one.sha256 or (one.hub and weights.hub == one.hub):
            return one.seen
    known = published(name)
    tuned = _tuned_on(weights.folder / _TUNED_ON)
    where = (
        f"the weights {weights.sha256[:12]} are unknown: from a local folder or another page of "
        "the hub"
    )

    # Weights under a published name have at least seen the labels that the published ones saw, but
    # may have seen more: that they did not see a corpus is not believed.
    def doubted(claim: Exposure) -> Exposure:
        return Exposure(
            "labels" if claim.saw == "labels" else "unknown",
            f"{where}; the published {name}: {_SAYS[claim.saw]} ({claim.source})",
        )

    corpora = {corpus: doubted(claim) for corpus, claim in known.corpora.items()}
    if not corpora:
        # Corpora are listed for an unknown encoder too, so that every result shows the mark.
        corpora = dict.fromkeys(("*", *DECLARED_CORPORA), Exposure("unknown", where))
    listed = _listed_in_card(weights.folder / _CARD)
    emotional = [claim for name, claim in listed.items() if _plain(name) in DECLARED_CORPORA]
    told = [*tuned.values(), *_classes_of_config(weights.folder / "config.json"), *emotional]
    emotions = next(iter(told), doubted(known.emotion_labels))
    return Seen({**corpora, **listed, **tuned}, emotions)


def _listed_in_card(file: Path) -> dict[str, Exposure]:
    """The data sets that the card beside weights lists; it can only add contamination.

    A list says nothing of what else was in the training, nor whether labels were used: they may
    have been.
    """
    import yaml  # imported here: only the cards of unknown weights are read

    text = file.read_text("utf-8", "replace") if file.is_file() else ""
    try:
        head = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else {}
        sets = head.get("datasets") or ()
        names = [sets] if isinstance(sets, str) else [one for one in sets if isinstance(one, str)]
    except (yaml.YAMLError, AttributeError, TypeError, IndexError):
        return {}  # no card in the hub's form
    source = f"{_CARD} beside the weights lists it among the data sets of their training"
    return {name.rpartition("/")[2]: Exposure("labels", source) for name in names}


def _classes_of_config(file: Path) -> list[Exposure]:
    """That a network was trained to predict emotions, as the classes in its configuration tell."""
    try:
        classes = [str(one) for one in parse_json(file.read_text("utf-8"))["id2label"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # nothing says that it has classes
    found = {one for one in _EMOTIONS for name in classes if name.casefold().startswith(one)}
    if len(found) < _LEAST_EMOTIONS:
        return []
    return [Exposure("labels", f"its config.json names its classes: {', '.join(classes)}")]


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
    """The description of an encoder with these weights.

    Args:
        name: key in ENCODERS, or another name of the encoder.
        modality: what it reads.
        weights: what `resolve` found.
        layers: the layers that are concatenated.
        width: of one layer.
        rate: frames per second; 0 for text.
        pool: how all frames become one vector.
    """
    seen = _seen_by(name, weights)
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


def write_tuned_on(
    folder: Path, corpora: Sequence[str], labels: str, before: Mapping[str, Exposure]
) -> None:
    """Records beside weights on which corpora they were fine-tuned with emotion labels.

    Args:
        folder: of the weights.
        corpora: names of the corpora.
        labels: the class set.
        before: what the weights had seen that they were fine-tuned from; of other corpora's labels
            the new ones have learnt, too.
    """
    seen = {key: one.source for key, one in before.items() if one.saw == "labels"}
    text = json.dumps({"corpora": list(corpora), "labels": labels, "before": seen}, indent=1)
    (folder / _TUNED_ON).write_text(text + "\n", encoding="utf-8")


def _tuned_on(file: Path) -> dict[str, Exposure]:
    """Reads what `write_tuned_on` wrote; it can only add contamination, never remove it."""
    if not file.is_file():
        return {}
    try:
        content = parse_json(file.read_text("utf-8"))
        source = f"{_TUNED_ON} beside the weights: fine-tuned on the labels {content['labels']!s}"
        before = {
            str(name): Exposure("labels", str(said))
            for name, said in content.get("before", {}).items()  # files of older versions lack it
        }
        return {**before, **{str(name): Exposure("labels", source) for name in content["corpora"]}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{file} cannot be read ({error!r}); fetch it again") from error


def claim_about(corpus: str, exposure: Mapping[str, Exposure]) -> Exposure | None:
    """The claim about a corpus: by its name, by that of a corpus that it contains, or by ``*``.

    Users write CREMA-D or EmoDB for ``cremad`` and ``emodb``.

    >>> claim_about("cremad", {"CREMA-D": Exposure("labels", "stated")}).saw
    'labels'
    >>> claim_about("EmoDB 2", {"emodb": Exposure("labels", "stated")}).saw
    'labels'
    """
    claims = {_plain(name): claim for name, claim in exposure.items()}
    contained = _CONTAINS.get(_plain(corpus), "")
    return claims.get(_plain(corpus)) or claims.get(contained) or exposure.get("*")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def stated(items: Sequence[str]) -> Seen:
    """What a training saw according to the user.

    Args:
        items: ``CORPUS=SAW`` each, ``*=SAW`` for every other corpus, and ``emotions=no`` or
            ``emotions=labels`` for emotion labels of any corpus.

    Raises:
        FeatureError: an item has another form.

    >>> stated(["meld=labels"]).emotion_labels.saw
    'labels'
    """
    refuse_twice("--trained-on", items)
    claimed = {}
    for item in items:
        corpus, _, saw = item.partition("=")
        if not corpus or saw not in get_args(Saw):
            raise FeatureError(
                f"--trained-on {item!r}; write CORPUS=SAW, where SAW is one of "
                f"{', '.join(get_args(Saw))}, such as meld=labels; emotions=no says that no "
                "emotion labels were used"
            )
        claimed[corpus] = Exposure(cast(Saw, saw), "stated by the user (--trained-on)")
    # Labels of any corpus are emotion labels; a statement to the contrary does not count.
    any_labels = next((claim for claim in claimed.values() if claim.saw == "labels"), UNDECLARED)
    labels = claimed.pop("emotions", any_labels)
    return Seen(claimed, any_labels if any_labels.saw == "labels" else labels)


def with_stated(info: EncoderInfo, items: Sequence[str]) -> EncoderInfo:
    """Adds what the user states about an encoder's training, if nothing else is known.

    Raises:
        EncoderError: it is already known what its training saw, or that it saw more.
    """
    if not items:
        return info
    seen = stated(items)
    if info.emotion_labels.saw != "unknown":
        raise EncoderError(
            f"--trained-on: it is already known what the training of {info.name} saw "
            f"({info.emotion_labels.source}); leave --trained-on out"
        )
    for corpus, said in seen.corpora.items():
        known = claim_about(corpus, info.exposure)
        if known and known.saw == "labels" != said.saw:
            raise EncoderError(
                f"--trained-on {corpus}={said.saw}: {known.source}; leave that statement out"
            )
    corpora = {**info.exposure, **seen.corpora}
    return replace(info, exposure=corpora, emotion_labels=seen.emotion_labels)


def refuse_emotion_trained(name: str, claim: Exposure) -> None:
    """Raises EncoderError unless it is known that no emotion labels were used."""
    if claim.saw in ("no", "unlabelled"):
        return
    if claim.saw == "labels":
        what, remedy = "was trained on emotion labels", "take another encoder"
    else:
        what = "may have been trained on emotion labels: nothing is known"
        remedy = (
            "take its weights from their authors' page on the hub, or, if you know that none were "
            "used, extract with --trained-on emotions=no"
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
