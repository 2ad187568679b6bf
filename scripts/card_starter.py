"""Measures the starter model and writes it, with its card, for shipping.

    python scripts/card_starter.py --run runs/starter --cremad cremad.jsonl --emodb emodb.jsonl \
        --speakers audeering_speaker_splits.json --unseen nemo.jsonl turev.jsonl \
        --out src/multimodal_ser/starter

`runs/starter` is what `train_starter.py` left. The corpora of `--unseen` are for evaluation alone.
No number of the card is typed by hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from frozen_probes import frozen
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from made_sounds import without_speech
from numpy.typing import NDArray
from scipy.special import softmax
from train_starter import ENCODER, LABELS, LEARNT, PROBE, class_of, collect, network, parts, rows_of

from multimodal_ser import load
from multimodal_ser.audio import read_audio
from multimodal_ser.audio.augment import coded, noisy, reverberated, telephone
from multimodal_ser.audio.speech import canonical, find_speech, lengthened
from multimodal_ser.corpora import Utterance
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.predict import Prediction
from multimodal_ser.predict.unseen import (
    RIGHT,
    Calibration,
    LeftOut,
    adapted,
    judged,
    leave_one_out,
    scores,
)
from multimodal_ser.training.tune.probe import Probe, ProbeConfig, Vectors, side_by_side
from multimodal_ser.training.tune.tuned import Tuned, load_tuned, log_mels, save_tuned

BATCH = 16
EVERY = {"cremad": 3, "emodb": 1}  # of the held-out recordings are measured under each condition
COMMON = ("anger", "happiness", "neutral", "sadness")
PAUSE = 32_000  # samples, 2 s
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Arguments:
    """The arguments of the script."""

    run: Path
    cremad: Path
    emodb: Path
    speakers: Path
    out: Path
    unseen: tuple[Path, ...] = ()
    before: Path | None = None
    beside: tuple[str, ...] = ()
    source: str | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    probe: ProbeConfig = PROBE


def quantised(wave: Wave, level: float) -> Wave:
    """At a level, in 16 bits."""
    return np.asarray(np.round(wave * level * 32_767) / 32_767, np.float32)


CONDITIONS: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "as it is": lambda wave, rng: wave,
    "2 s of silence before and after": lambda wave, rng: np.pad(wave, PAUSE),
    "a tenth of the level": lambda wave, rng: quantised(wave, 0.1),
    "0.03 of the level": lambda wave, rng: quantised(wave, 0.03),
    "telephone band, 8 kHz": lambda wave, rng: telephone(wave),
    "MP3, 32 kbit/s": lambda wave, rng: coded(wave, "mp3", 32_000),
    "Opus, 16 kbit/s": lambda wave, rng: coded(wave, "opus", 16_000),
    "noise, 20 dB": lambda wave, rng: noisy(wave, 20, rng),
    "reverberation, 0.5 s": lambda wave, rng: reverberated(wave, 0.5, rng),
}


@torch.inference_mode()
def probabilities(model: Tuned, waves: Sequence[Wave]) -> NDArray[np.float32]:
    """What the model says of recordings, each brought to its canonical form."""
    prepared = [lengthened(canonical(wave), model.shortest)[:LONGEST_SAMPLES] for wave in waves]
    order = sorted(range(len(prepared)), key=lambda place: len(prepared[place]))
    found = np.zeros((len(prepared), len(model.classes)), np.float32)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        logits = model(*log_mels([prepared[place] for place in batch])).logits
        found[batch] = logits.softmax(1).numpy()
    return found


def conditions(
    model: Tuned, rows: Sequence[Utterance], label: Sequence[int]
) -> list[dict[str, Any]]:
    """UA and the share of changed answers under each condition, of held-out recordings."""
    waves = [read_audio(Path(str(row.audio))) for row in rows]
    speaker = np.array([f"{row.corpus}/{row.speaker}" for row in rows])
    truth, found, first = np.asarray(label), [], None
    for name, change in CONDITIONS.items():
        changed = [
            change(wave, np.random.default_rng([17, place])) for place, wave in enumerate(waves)
        ]
        shares = probabilities(model, changed)
        first = shares.argmax(1) if first is None else first
        scores = judged(shares, truth, speaker, model.threshold)
        found.append({"name": name, "changed": float((shares.argmax(1) != first).mean()), **scores})
        logging.info("%s: UA %.3f, changed %.3f", name, scores["ua"], found[-1]["changed"])
    return found


def silent(model: Tuned) -> dict[str, Any]:
    """What becomes of recordings without speech."""
    sounds = without_speech()
    spoken = [wave for wave in sounds if find_speech(wave).stretches]
    top = probabilities(model, spoken).max(1) if spoken else np.zeros(0)
    return {
        "n": len(sounds),
        "no_speech": len(sounds) - len(spoken),
        "uncertain": int((top < model.threshold).sum()),
        "highest": float(top.max()) if len(top) else None,
    }


def probe_of(model: Tuned) -> Probe:
    """The shipped numbers as a probe."""
    state = {key: value.double().numpy() for key, value in model.state_dict().items()}
    parts = ("head.weight", "head.bias", "span.weight", "span.bias", "out.weight", "out.bias")
    return Probe(*(state[name] for name in (*parts, "centres", "shares")))


def heard_by(model: Tuned, data: Vectors, layers: Sequence[int], name: str) -> LeftOut:
    """A corpus as the shipped model hears it."""
    probe = probe_of(model)
    points = probe.vectors(side_by_side(data, layers))
    return LeftOut(name, probe, points, data.label, data.speaker)


def table(one: LeftOut, calibration: Calibration) -> dict[str, Any]:
    """A row of the table of unseen corpora, for the classes that all corpora have."""
    four = one.of([LABELS.classes.index(name) for name in COMMON])
    return {
        "corpus": one.corpus,
        "single": scores(four, calibration),
        "adapted": asdict(adapted(four, calibration.temperature)),
        "all_classes": scores(one, calibration)["ua"],
    }


def of_before(file: Path, manifest: Path) -> dict[str, Any]:
    """What an earlier starter's file says of the same recordings, as it was shipped."""
    predictor = load(file)
    rows = [row for row in rows_of(manifest) if LABELS.classes[int(str(class_of(row)))] in COMMON]
    predictions = predictor([str(row.audio) for row in rows])
    shares = np.array([one.probabilities for one in predictions if isinstance(one, Prediction)])
    label = np.array([class_of(row) for row in rows], np.int64)
    speaker = np.array([str(row.speaker) for row in rows])
    places = [predictor.labels.index(name) for name in LABELS.classes]
    found = judged(shares[:, places], label, speaker, predictor.threshold)
    return {"corpus": rows[0].corpus, **found}


def coverage(one: LeftOut, calibration: Calibration) -> list[dict[str, float]]:
    """How many answers stand above a threshold, and how many of those are right."""
    shares = softmax(one.logits(calibration.temperature), axis=1)
    found = []
    for threshold in (0.0, 0.3, 0.4, 0.5, 0.6, 0.7):
        kept = shares.max(1) >= threshold
        right = float((shares.argmax(1) == one.label)[kept].mean()) if kept.any() else float("nan")
        found.append({"threshold": threshold, "coverage": float(kept.mean()), "accuracy": right})
    return found


def groups(rows: Sequence[Utterance], one: LeftOut, calibration: Calibration) -> dict[str, Any]:
    """By sex and age."""
    cuts: dict[str, Callable[[Utterance], bool]] = {
        "women": lambda row: row.extra.get("sex") == "female",
        "men": lambda row: row.extra.get("sex") == "male",
        "under 30 years": lambda row: int(row.extra["age"]) < 30,
        "30 to 44 years": lambda row: 30 <= int(row.extra["age"]) < 45,
        "45 years and over": lambda row: int(row.extra["age"]) >= 45,
    }
    shares, found = softmax(one.logits(calibration.temperature), axis=1), {}
    for name, keep in cuts.items():
        mask = np.array([keep(row) for row in rows])
        found[name] = judged(
            shares[mask], one.label[mask], one.speaker[mask], calibration.threshold
        )
    return found


def measured(arguments: Arguments, model: Tuned) -> dict[str, Any]:
    """Everything that the card says."""
    encoder, _ = network(arguments.source)
    out, layers = arguments.run, arguments.probe.layers
    rows = parts(arguments)  # type: ignore[arg-type]
    given = {
        key: collect(out, encoder, part, key[1], arguments.precision) for key, part in rows.items()
    }
    calibration = Calibration(float(model.temperature), model.threshold)
    held = {
        corpus: heard_by(model, given[corpus, "test"], layers, corpus)
        for corpus in ("cremad", "emodb")
    }
    train = Vectors.joined([one for (_, part), one in given.items() if part in LEARNT])
    left = leave_one_out(train, ("cremad", "emodb"), arguments.probe, len(LABELS.classes))
    clean = train.where(train.change == "none")
    read = {name: clean.where(clean.corpus == name) for name in ("cremad", "emodb")}
    recordings = {
        name: [row for part in LEARNT for row in rows.get((name, part), [])] for name in read
    }
    never = []
    for manifest in arguments.unseen:
        name, part = rows_of(manifest)[0].corpus, rows_of(manifest)
        read[name], recordings[name] = collect(out, encoder, part, "all", arguments.precision), part
        never.append(table(heard_by(model, read[name], layers, name), calibration))
    some = {corpus: slice(None, None, every) for corpus, every in EVERY.items()}
    sample = [row for corpus, cut in some.items() for row in rows[corpus, "test"][cut]]
    label = [k for corpus, cut in some.items() for k in given[corpus, "test"].label[cut].tolist()]
    return {
        "classes": list(LABELS.classes),
        "common": list(COMMON),
        "held_out": {name: scores(one, calibration) for name, one in held.items()},
        "recalls": recalls(held["cremad"], calibration),
        "left_out": [table(one, calibration) for one in left],
        "never": never,
        "frozen": frozen(
            {ENCODER: read}, recordings, arguments.beside, out, layers, COMMON, arguments.precision
        ),
        "right": RIGHT,
        "before": [of_before(arguments.before, manifest) for manifest in arguments.unseen]
        if arguments.before
        else [],
        "coverage": coverage(held["cremad"], calibration),
        "conditions": conditions(model, sample, label),
        "silent": silent(model),
        "groups": groups(rows["cremad", "test"], held["cremad"], calibration),
        "calibration": asdict(calibration),
        "about": model.about,
        "layers": list(layers),
    }


def recalls(one: LeftOut, calibration: Calibration) -> list[float]:
    """Of each class."""
    predicted = one.logits(calibration.temperature).argmax(1)
    return [float((predicted[one.label == k] == k).mean()) for k in range(len(LABELS.classes))]


def render(facts: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f}"
    return environment.get_template("card_starter.md").render(**facts)


def main(arguments: Arguments) -> None:
    """Writes model.safetensors, CARD.md, card.json."""
    model = load_tuned(arguments.run / "model.safetensors")
    facts = measured(arguments, model)
    model.card = render(facts)
    save_tuned(model, arguments.out / "model.safetensors")
    digest = hashlib.sha256((arguments.out / "model.safetensors").read_bytes()).hexdigest()
    (arguments.out / "CARD.md").write_text(f"{model.card}\nsha256 of the file: `{digest}`\n")
    (arguments.out / "card.json").write_text(json.dumps({**facts, "sha256": digest}, indent=1))
    size = (arguments.out / "model.safetensors").stat().st_size
    logging.info("%.1f MB, sha256 %s", size / 1e6, digest)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(tyro.cli(Arguments, config=(tyro.conf.OmitArgPrefixes,)))
