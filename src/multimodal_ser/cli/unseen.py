"""Subcommand unseen: how a linear probe does on corpora that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal_ser.cli.app import app, command_line, say
from multimodal_ser.common.files import write_file
from multimodal_ser.errors import LabelError, SerError, SplitError, one_of

if TYPE_CHECKING:
    from multimodal_ser.dataset.material import Material


@app.command(name="unseen")
def unseen_command(
    features: tuple[Path, ...],
    learn: tuple[str, ...],
    labels: str = "common6",
    audio: str | None = None,
    axes: int = 300,
    shrinkage: float = 1.0,
    channel: float = 1.0,
    odds: tuple[float, ...] = (),
    test_classes: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (10, 50, 200, 500),
    out: Path | None = None,
) -> None:
    """Leaves each corpus out in turn and tests a linear probe trained on the others on it.

    Tested per recording, and with the channel removed that is estimated from some of the corpus's
    recordings without their labels. No label of the tested corpus is used, with one exception that
    the output states: of only two corpora to learn from, both calibrate the probe.

    Args:
        features: folders of the corpora's audio features, two or more; their means are used.
        learn: names of the corpora that may be trained on, two or more; the others are only tested.
        labels: class set; a corpus that is only tested may lack classes.
        audio: which audio features, if there are several.
        axes: principal axes that the probe keeps.
        shrinkage: share of the mean variance that is added in every direction.
        channel: weight of the differences between corpora as noise.
        odds: assumed frequency of each class, in the class set's order; default: all equal.
        test_classes: test only recordings of these classes, so that corpora can be compared;
            default: all. Predictions may be of any class.
        sizes: numbers of recordings from which the channel is estimated.
        out: file for the results, as JSON.
    """
    from multimodal_ser.corpora.labels import class_set
    from multimodal_ser.dataset.material import load_material, pooled
    from multimodal_ser.experiments.pairs import check_comparable
    from multimodal_ser.predict.unseen import calibrated_apart, of_material, protocol
    from multimodal_ser.training.tune.probe import ProbeConfig, Vectors

    named = class_set(labels)
    if strange := [name for name in test_classes if name not in named.classes]:
        raise SerError(one_of("class", strange[0], named.classes))
    # incomplete class sets are fine here: a corpus without "disgust" can still test the other
    # classes
    materials = [
        pooled(load_material(path, named, audio, "none", complete=False)) for path in features
    ]
    for other in materials[1:]:
        check_comparable(materials[0], other)
    notes = _checked(materials, learn)
    if not calibrated_apart(learn):
        notes.append(
            f"{' and '.join(learn)}: temperature and threshold were chosen with their labels, too, "
            "so their ECE, confidence, coverage and right above are too good; learn from three "
            "corpora or more, or look at the others"
        )
    data = Vectors.joined([of_material(one) for one in materials])
    config = ProbeConfig((1,), axes, shrinkage, channel, odds=odds)
    found = protocol(data, learn, config, named.classes, sizes=sizes, test_classes=test_classes)
    marks = list(dict.fromkeys([*(mark for one in materials for mark in one.marks), *notes]))
    say("\n".join([_table(found, sizes), "", *marks]))
    if out is not None:
        origin = {"command": command_line(), "marks": marks}
        write_file(out, json.dumps({**origin, **found}, indent=1) + "\n")


def _checked(materials: Sequence[Material], learn: Sequence[str]) -> list[str]:
    """Returns notes on speakers with the same name in two corpora.

    Raises:
        LabelError: a corpus that is learnt from lacks a class.
        SplitError: a corpus has recordings that another one, which is learnt from, has too.
    """
    from multimodal_ser.dataset.material import sounds_of
    from multimodal_ser.splits.leaks import shared_between

    sounds, notes = sounds_of(*materials), []
    for tested in materials:
        corpus, has = tested.utterances[0].corpus, set(tested.examples.label.tolist())
        lacking = [name for k, name in enumerate(tested.labels.classes) if k not in has]
        if lacking and corpus in learn:
            raise LabelError(
                f"{corpus} has no recording of {', '.join(lacking)}, and corpora to learn from "
                "need every class: leave it out of --learn, or choose other --labels"
            )
        others = [row for one in materials if one is not tested for row in one.utterances]
        learnt = [row for row in others if row.corpus in learn]
        copies, more = shared_between(learnt, tested.utterances, sounds)
        notes += more
        if copies:
            raise SplitError(
                f"{len(copies)} recordings of {corpus!r}, such as {copies[0]!r}, are, as they are "
                "or as copies, also in a corpus that is learnt from; take corpora that share none"
            )
    return notes


def _table(found: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """The protocol's results as one Markdown table, in per cent."""
    titles = ["corpus left out", "n", "UA", "ECE", "confidence", "coverage", "right above"]
    titles += [f"UA after {size}" for size in sizes]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for corpus, scores in found["corpora"].items():
        one, after = scores["single"], scores["adapted"]["mixed"]
        interval = (
            f" [{_percent(one['low'])}, {_percent(one['high'])}]"
            if "low" in one
            else " [cannot be known]"
        )
        cells = [corpus, str(one["n"]), _percent(one["ua"]) + interval]
        cells += [_percent(one[k]) for k in ("ece", "confidence", "coverage", "accuracy_above")]
        cells += [_percent(after.get(size)) for size in sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
