"""Several corpora and their splits → one material and one split, to train on all of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.dataset.material import Material, sounds_of
from multimodal_ser.errors import SerError, SplitError
from multimodal_ser.experiments.loading import unlearnt
from multimodal_ser.experiments.pairs import check_comparable
from multimodal_ser.experiments.plans import Plan, corpus_names
from multimodal_ser.splits.folds import PARTS, Fold, Split
from multimodal_ser.splits.leaks import shared_between
from multimodal_ser.training.baselines import BASELINES

_log = logging.getLogger(__name__)


def merge_domains(
    domains: Sequence[tuple[Material, Split]], allow: Collection[str] = ()
) -> tuple[Material, Split]:
    """Merges corpora fold by fold, in the order of their names, whichever is given first.

    Args:
        domains: two or more corpora with the same number of folds.
        allow: ``recording`` accepts that one corpus contains copies of another's recordings.

    Raises:
        SerError: class orders, features or numbers of folds differ; or recordings that are tested
            in one corpus are learnt from in another.
    """
    ordered = sorted(domains, key=lambda domain: corpus_names(domain[0]))
    materials, splits = zip(*ordered, strict=True)
    if len(materials) < 2:
        raise SerError("a combined training needs two corpora or more")
    for first, second in combinations(materials, 2):
        check_comparable(first, second)
    material = merged_material(materials)
    split = _checked_across(merged_split(splits), materials, allow)
    lacking = unlearnt(material, split.folds)
    for line in lacking:
        _log.warning("%s", line)
    return material, replace(split, notes=(*split.notes, *lacking))


def merged_material(materials: Sequence[Material]) -> Material:
    """The utterances of several corpora as one material; tokens are padded to the longest."""
    examples = Examples.joined([one.examples for one in materials])
    if len(set(examples.ids)) != len(examples):
        raise SerError("two of the corpora have utterances in common; give each corpus once")
    dropped: Counter[str] = Counter()
    for one in materials:
        dropped.update(one.dropped)
    return replace(
        materials[0],
        utterances=[row for one in materials for row in one.utterances],
        examples=examples,
        features={name: _all_features(materials, name) for name in materials[0].features},
        hashes={key: value for one in materials for key, value in one.hashes.items()},
        marks=tuple(dict.fromkeys(mark for one in materials for mark in one.marks)),
        dropped=dropped,
        prints={key: value for one in materials for key, value in one.prints.items()},
    )


def _checked_across(split: Split, materials: Sequence[Material], allow: Collection[str]) -> Split:
    """Adds to a split the recordings that are tested in one corpus and are in another one, too.

    Each corpus's own split has checked the corpus against itself; copies across corpora are only
    visible here. Those that are tested in both leak nothing, but count as more speakers than spoke.
    """
    sounds, found = sounds_of(*materials), []
    tested = {key for fold in split.folds for key in fold.test}
    present = tested.union(*(fold.learnt for fold in split.folds))
    for corpus in materials:
        others = [row for one in materials if one is not corpus for row in one.utterances]
        found.append(
            shared_between(
                [row for row in others if row.id in present],
                [row for row in corpus.utterances if row.id in tested],
                sounds,
            )
        )
    copies = sorted({key for keys, _ in found for key in keys})
    leaks, notes = [], list(dict.fromkeys(note for _, its_notes in found for note in its_notes))
    if copies:
        leaks = [
            f"{len(copies)} tested recordings are, as they are or as copies, also in another corpus"
        ]
        if "recording" not in allow:
            raise SplitError(
                f"{leaks[0]}, such as {copies[0]!r}; take corpora that share none, or accept it, "
                "which every result will say: --allow recording"
            )
    return replace(split, leaks=(*split.leaks, *leaks), notes=(*split.notes, *notes))


def _all_features(materials: Sequence[Material], modality: str) -> FeatureSpec | None:
    """The first corpus's specification, with the content hashes of every corpus's features."""
    first = materials[0].features[modality]
    if first is None:
        return None
    # Every corpus's content enters the hash: changed features of any of them make another run.
    contents: dict[str, str] = {}
    for one in materials:
        name = ", ".join(corpus_names(one))
        spec = one.features[modality]
        contents[name] = contents.get(name, "") + (str(spec.content) if spec else "")
    return replace(first, content=contents)


def merged_split(splits: Sequence[Split]) -> Split:
    """Fold k of every split becomes one fold.

    Raises:
        SerError: the splits have different numbers of folds.
    """
    counts = [len(split.folds) for split in splits]
    if len(set(counts)) != 1:
        raise SerError(
            f"the corpora have {counts} folds; give the same number for each, such as --folds 5"
        )
    folds = []
    for group in zip(*(split.folds for split in splits), strict=True):
        names = dict.fromkeys(fold.name for fold in group)
        parts = {
            part: tuple(key for fold in group for key in getattr(fold, part)) for part in PARTS
        }
        folds.append(Fold(" + ".join(names), **parts))
    name = " + ".join(dict.fromkeys(split.name for split in splits))
    leaks, notes = (
        tuple(dict.fromkeys(sentence for split in splits for sentence in getattr(split, kind)))
        for kind in ("leaks", "notes")
    )
    return Split(name, tuple(folds), leaks, notes)


def balanced(item: Plan) -> Plan:
    """The same run with every corpus drawn equally often; baselines are left as they are."""
    if item.config.model in BASELINES:
        return item
    train = replace(item.config.train, balanced=True)
    return replace(item, config=replace(item.config, train=train))
