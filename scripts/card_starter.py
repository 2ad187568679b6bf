"""Measures the starter model on its held-out speakers and writes it, with its card, for shipping.

    python scripts/card_starter.py --run runs/starter --manifests cremad.jsonl emodb.jsonl \
        --genuine genuine.jsonl --frozen runs/starter-frozen --out src/multimodal_ser/starter

`runs/starter` is what `train_starter.py` left; `--frozen` an experiment of `ser train` with the
untouched encoder on the same split. No number of the card is typed by hand.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
import torch
import tyro
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from multimodal_ser import metrics
from multimodal_ser.audio import read_audio
from multimodal_ser.augment import band_limited, noisy, reverberated
from multimodal_ser.corpora import Utterance, read_manifest
from multimodal_ser.folds import read_split
from multimodal_ser.labels import CLASS_SETS
from multimodal_ser.report import summarise
from multimodal_ser.statistics import clustered_interval
from multimodal_ser.tune import Tuned, load_tuned, log_mels, save_tuned

LABELS = CLASS_SETS["common6"]
RATE = 16_000
BATCH = 32
LEAST_SPEAKERS = 10  # for an interval
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Arguments:
    """What the script is told."""

    run: Path
    manifests: tuple[Path, ...]
    genuine: Path
    out: Path
    frozen: Path | None = None


@dataclass(frozen=True)
class Heard:
    """What the model said of some utterances."""

    rows: Sequence[Utterance]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def where(self, keep: Callable[[Utterance], bool]) -> Heard:
        """Those of them that are kept."""
        mask = np.array([keep(row) for row in self.rows], dtype=bool)
        rows = [row for row, kept in zip(self.rows, mask, strict=True) if kept]
        return Heard(rows, self.truth[mask], self.probabilities[mask])


def telephone(wave: Wave, rng: np.random.Generator) -> Wave:
    """A line of 8 kHz: 300 to 3,400 Hz."""
    narrow = soxr.resample(band_limited(wave, 300, 3_400), RATE, 8_000)
    return np.asarray(soxr.resample(narrow, 8_000, RATE), np.float32)


def mp3(wave: Wave, rng: np.random.Generator) -> Wave:
    """MP3 at 32 kbit/s and back."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = 32_000
        frame = av.AudioFrame.from_ndarray(
            (np.clip(wave, -1, 1) * 32_767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return np.asarray(read_audio(file.getvalue()), np.float32)


CONDITIONS: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "clean": lambda wave, rng: wave,
    "telephone band, 8 kHz": telephone,
    "MP3, 32 kbit/s": mp3,
    "noise, 20 dB": lambda wave, rng: noisy(wave, 20, rng),
    "noise, 10 dB": lambda wave, rng: noisy(wave, 10, rng),
    "noise, 5 dB": lambda wave, rng: noisy(wave, 5, rng),
    "reverberation, 0.5 s": lambda wave, rng: reverberated(wave, 0.5, rng),
}


@torch.inference_mode()
def listen(model: Tuned, rows: Sequence[Utterance], condition: str) -> Heard:
    """Asks about recordings under a condition; each draws its own noise, the same every time."""
    probabilities = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        waves = [
            CONDITIONS[condition](
                read_audio(Path(str(row.audio))), np.random.default_rng(start + place)
            )
            for place, row in enumerate(part)
        ]
        probabilities.append(model(*log_mels(waves)).logits.softmax(1).numpy())
    truth = [LABELS.index(str(LABELS.class_of(row.corpus, row.emotion))) for row in rows]
    return Heard(rows, np.array(truth), np.concatenate(probabilities))


def score(heard: Heard) -> dict[str, Any]:
    """UA with its interval over speakers, WA, ECE."""
    speakers = sorted({str(row.speaker) for row in heard.rows})
    group = [speakers.index(str(row.speaker)) for row in heard.rows]
    predicted = heard.probabilities.argmax(1)
    sums = metrics.grouped_confusion(
        heard.truth, predicted, group, classes=len(LABELS.classes), groups_total=len(speakers)
    )
    matrix = sums.sum(0)
    scores: dict[str, Any] = {
        "n": len(heard.rows),
        "speakers": len(speakers),
        "ua": float(metrics.ua(matrix)),
        "wa": float(metrics.wa(matrix)),
        "ece": float(metrics.ece(heard.probabilities, heard.truth)),
        "recalls": [float(one) for one in metrics.recalls(matrix)],
    }
    if len(speakers) >= LEAST_SPEAKERS:
        interval = clustered_interval(sums[:, None], metrics.ua)
        scores |= {"low": interval.low, "high": interval.high}
    return scores


def coverage(heard: Heard, threshold: float) -> dict[str, float]:
    """How many answers stand above a threshold, and how many of those are right."""
    kept = heard.probabilities.max(1) >= threshold
    right = heard.probabilities.argmax(1) == heard.truth
    accuracy = float(right[kept].mean()) if kept.any() else float("nan")
    return {"threshold": threshold, "coverage": float(kept.mean()), "accuracy": accuracy}


def groups(heard: Heard) -> dict[str, dict[str, Any]]:
    """By sex and age."""
    cuts: dict[str, Callable[[Utterance], bool]] = {
        "women": lambda row: row.extra.get("sex") == "female",
        "men": lambda row: row.extra.get("sex") == "male",
        "under 30 years": lambda row: int(row.extra["age"]) < 30,
        "30 to 44 years": lambda row: 30 <= int(row.extra["age"]) < 45,
        "45 years and over": lambda row: int(row.extra["age"]) >= 45,
    }
    parts = {name: heard.where(keep) for name, keep in cuts.items()}
    return {name: score(part) for name, part in parts.items() if len(part.rows)}


def measured(arguments: Arguments, model: Tuned) -> dict[str, Any]:
    """Everything that the card says."""
    known = {row.id: row for path in arguments.manifests for row in read_manifest(path)}
    fold = read_split(arguments.run / "split.json").folds[0]
    rows = [known[key] for key in fold.test]
    heard = {name: listen(model, rows, name) for name in CONDITIONS}
    clean = heard["clean"]
    by_corpus = {
        corpus: clean.where(lambda row, c=corpus: row.corpus == c)  # type: ignore[misc]
        for corpus in ("cremad", "emodb")
    }
    cremad = by_corpus["cremad"]
    genuine = [row for row in read_manifest(arguments.genuine) if not row.extra.get("audio")]
    unseen = {str(row.speaker) for row in cremad.rows}
    genuine = [row for row in genuine if str(row.speaker) in unseen] or genuine
    frozen = []
    if arguments.frozen:
        for row in summarise(arguments.frozen).rows:
            ua = row.scores["UA"]
            frozen.append({"name": row.name, "ua": ua.mean, "low": ua.low, "high": ua.high})
    return {
        "classes": list(LABELS.classes),
        "train": len(fold.train),
        "validation": len(fold.validation),
        "corpora": {name: score(part) for name, part in by_corpus.items()},
        "genuine": score(listen(model, genuine, "clean")),
        "genuine_unseen": bool({str(row.speaker) for row in genuine} <= unseen),
        "conditions": {
            name: score(one.where(lambda row: row.corpus == "cremad"))
            for name, one in heard.items()
        },
        "chosen": coverage(clean, model.threshold),
        "coverage": [coverage(clean, t) for t in (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)],
        "groups": groups(cremad),
        "frozen": frozen,
        "temperature": float(model.temperature),
        "history": [
            json.loads(line) for line in (arguments.run / "history.jsonl").read_text().splitlines()
        ],
        "about": model.about,
    }


def _facts(arguments: Arguments, model: Tuned) -> dict[str, Any]:
    """Measured once for a model, and kept beside it."""
    made_of = hashlib.sha256((arguments.run / "model.safetensors").read_bytes()).hexdigest()
    file = arguments.run / "measured.json"
    if file.exists() and json.loads(file.read_text())["made_of"] == made_of:
        return dict(json.loads(file.read_text())["facts"])
    facts = measured(arguments, model)
    file.write_text(json.dumps({"made_of": made_of, "facts": facts}))
    return facts


def main(arguments: Arguments) -> None:
    """Writes model.safetensors, CARD.md, card.json."""
    model = load_tuned(arguments.run / "model.safetensors")
    facts = _facts(arguments, model)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    model.card = environment.get_template("card_starter.md").render(**facts)
    save_tuned(model, arguments.out / "model.safetensors")
    digest = hashlib.sha256((arguments.out / "model.safetensors").read_bytes()).hexdigest()
    (arguments.out / "CARD.md").write_text(f"{model.card}\nsha256 of the file: `{digest}`\n")
    (arguments.out / "card.json").write_text(json.dumps({**facts, "sha256": digest}, indent=1))
    size = (arguments.out / "model.safetensors").stat().st_size
    print(f"{size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
