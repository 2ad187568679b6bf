"""Subcommand `ser unseen`: how a probe does on corpora that it never heard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal_ser.cli.app import app, command_line, say


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
    asked: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (10, 50, 200, 500),
    out: Path | None = None,
) -> None:
    """Leaves every corpus out in turn and asks a linear probe of the others about it.

    Recording by recording, and with the channel taken out by some of the corpus's recordings
    without their labels. No label of the corpus that is asked about is used.

    Args:
        features: folders of the corpora's audio features, two or more; their means are read.
        learn: names of the corpora that may be learnt from, two or more; the others are for
            evaluation alone.
        labels: class set; a corpus that is only asked about may lack classes.
        audio: which audio features, where there are several.
        axes: principal axes that the probe keeps.
        shrinkage: share of the mean variance that it adds in every direction.
        channel: how much the differences between corpora count as noise for it.
        odds: how frequent each class is taken to be, in the class set's order; alike by default.
        asked: recordings of these classes alone are asked about, so that corpora compare; all by
            default. Answers may be of any class.
        sizes: how many recordings the channel is told from.
        out: file for the results, as JSON.
    """
    from multimodal_ser.common.files import written_aside
    from multimodal_ser.corpora.labels import class_set
    from multimodal_ser.dataset.material import load_material
    from multimodal_ser.errors import SerError, one_of
    from multimodal_ser.predict.unseen import of_material, protocol
    from multimodal_ser.training.tune.probe import ProbeConfig
    from multimodal_ser.training.tune.vectors import Vectors

    named = class_set(labels)
    materials = [load_material(path, named, audio, "none", complete=False) for path in features]
    data = Vectors.joined([of_material(one) for one in materials])
    config = ProbeConfig((1,), axes, shrinkage, channel, odds=odds)
    if strange := [name for name in asked if name not in named.classes]:
        raise SerError(one_of("class", strange[0], named.classes))
    only = [named.index(name) for name in asked]
    found = protocol(data, learn, config, len(named.classes), sizes=sizes, asked=only)
    say(_table(found, sizes))
    if out is not None:
        said = {"command": command_line(), "marks": [m for one in materials for m in one.marks]}
        with written_aside(out) as partial:
            partial.write_text(json.dumps({**said, **found}, indent=1) + "\n", "utf-8")


def _table(found: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """The protocol's results as one Markdown table, in per cent."""
    titles = ["corpus left out", "n", "UA", "ECE", "confidence", "coverage", "right above"]
    titles += [f"UA after {size}" for size in sizes]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for corpus, said in found["corpora"].items():
        one, after = said["single"], said["adapted"]["mixed"]
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
