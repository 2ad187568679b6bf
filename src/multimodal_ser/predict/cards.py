"""Model cards in Markdown for models that have none of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from multimodal_ser.common.files import parse_json
from multimodal_ser.config.record import Record
from multimodal_ser.encoders.base import Exposure

LIMITS = """\
## Limits

The classes are those of the training corpora, most of them acted. A probability says how such
recordings were labelled, not what a person feels. Do not use it to judge a person: not in hiring,
policing, education, insurance or medicine, and not on anybody who has not agreed.
"""


def run_card(folder: Path, record: Record) -> str:
    """The card of a run folder, from its record and scores."""
    config = record.config
    lines = [
        f"# {config.model} · {config.fold}",
        "",
        *(f"- {one.task}: {', '.join(one.classes)} ({one.name})" for one in config.labels.parts),
        f"- trained on: {', '.join(config.corpora)}, split {config.split.name}",
    ]
    for modality, spec in config.features.items():
        if spec:
            lines.append(
                f"- {modality}: {spec.encoder}, layers {spec.layers}, {spec.tokens} tokens, "
                f"weights sha256 `{spec.weights}`"
            )
    for modality, weights in record.layer_weights.items():
        shown = ", ".join(f"{layer}: {weight:.2f}" for layer, weight in weights.items())
        lines.append(f"- learnt weights of the {modality} layers: {shown}")
    for note in (*config.split.leaks, *config.marks):
        lines.append(f"- note: {note}")
    return "\n".join([*lines, *_scores(folder), "", LIMITS])


def _scores(folder: Path) -> Iterable[str]:
    file = folder / "metrics.json"
    if not file.is_file():
        return []
    parts = parse_json(file.read_text("utf-8"))
    rows = [
        f"- {part}: {', '.join(f'{name} {value:.3f}' for name, value in scores.items())}"
        for part, scores in parts.items()
    ]
    return ["", "## Scores of this one run", "", *rows]


def encoder_card(name: str, labels: Iterable[str], exposure: Mapping[str, Exposure]) -> str:
    """The card of an encoder with a classifier of its own, such as emotion2vec+."""
    corpora: dict[Exposure, list[str]] = {}
    for corpus, what in exposure.items():
        corpora.setdefault(what, []).append("any other" if corpus == "*" else corpus)
    saw = [f"- {', '.join(names)}: {what.saw} ({what.source})" for what, names in corpora.items()]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"Classes of its own head: {', '.join(labels)}. Its probabilities are not calibrated "
            "here, and no threshold is set.",
            "",
            "## What its training saw of each corpus",
            "",
            *saw,
            "",
            LIMITS,
        ]
    )
