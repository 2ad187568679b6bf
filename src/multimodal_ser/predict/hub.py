"""A Predictor ↔ a folder with model.safetensors, config.json and its card, here or on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal_ser.common.files import parse_json, scratch_folder, write_file
from multimodal_ser.errors import SerError

if TYPE_CHECKING:
    from multimodal_ser.config.record import Record
    from multimodal_ser.encoders.base import Exposure
    from multimodal_ser.predict.predictor import Predictor

HUB_FILES = ("model.safetensors", "config.json", "README.md")
# Of a run with fine-tuned encoders, also what each of them has learnt (`model_file.changes_of`).
_CHANGES = "encoder-*.safetensors"
_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
_FRONT = """\
---
library_name: multimodal-ser
pipeline_tag: audio-classification
tags:
- speech-emotion-recognition
---

"""
LIMITS = """\
## Limits

The classes are those of the training corpora, most of them acted. A probability says how such
recordings were labelled, not what a person feels. Do not use it to judge a person: not in hiring,
policing, education, insurance or medicine, and not on anybody who has not agreed.
"""


def refuse_adapted(predictor: Predictor) -> None:
    """Raises SerError for a predictor that removes a channel, which no model's file can hold."""
    if predictor.channel is not None:
        raise SerError(
            f"{predictor.name} is adapted to a channel, which would not be in its files; write "
            "the model that was adapted, and its channel with predictor.channel.save(FILE)"
        )


def save(predictor: Predictor, folder: Path) -> Path:
    """Writes a predictor's files; see `Predictor.save`."""
    refuse_adapted(predictor)
    config = predictor.backend.save(folder)
    about = {"kind": config.pop("kind"), "name": predictor.name, "threshold": predictor.threshold}
    config["predictor"] = {**about, "labels": list(predictor.labels)}
    write_file(folder / "config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    card = predictor.card if predictor.card.startswith("---\n") else _FRONT + predictor.card
    write_file(folder / "README.md", card)
    return folder


def push(predictor: Predictor, repo_id: str, *, private: bool = False) -> str:
    """Uploads a predictor; see `Predictor.push`."""
    import huggingface_hub

    # The error class of the HTTP library that huggingface_hub uses: requests or httpx, by version.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    with scratch_folder() as folder:
        save(predictor, folder)
        api = huggingface_hub.HfApi()
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder)
        except (HTTPError, OSError, ValueError) as error:
            raise SerError(f"{repo_id}: the upload to the hub failed: {_reason(error)}") from error
    return str(url)


def fetch(hub_id: str) -> Path:
    """Downloads a saved predictor: ``owner/name`` or ``owner/name@revision``.

    Raises:
        SerError: no such id, or the hub cannot be reached.
    """
    import huggingface_hub

    found = _ID.fullmatch(hub_id)
    if not found:
        raise SerError(
            f"hub:{hub_id}: no hub id; allowed: hub:owner/name or hub:owner/name@revision"
        )
    try:
        folder = huggingface_hub.snapshot_download(
            found[1], revision=found[2], allow_patterns=[*HUB_FILES, _CHANGES]
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise SerError(f"hub:{hub_id} cannot be fetched: {_reason(error)}") from error
    return Path(folder)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


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
