"""Made-up run folders for the report's tests."""

import csv
import json

import numpy as np

CLASSES = ("anger", "joy", "neutral")


def write_run(
    root, model, fold, seed, *, skill=2.0, rows=18, classes=CLASSES, speaker=True, salt="", **config
):
    """Writes one run folder as training does; truth and difficulty depend on the fold alone.

    `speaker` says whether the rows have one; a number, how many test rows have none.
    """
    of_fold = np.random.default_rng(fold)
    of_run = np.random.default_rng([fold, seed, len(model), *salt.encode()])
    truth = of_fold.integers(len(classes), size=rows)
    scores = of_fold.gumbel(size=(rows, len(classes))) + 0.3 * of_run.gumbel(
        size=(rows, len(classes))
    )
    scores[np.arange(rows), truth] += skill
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    folder = root / f"{model}-{fold}-{seed}-{config.pop('hash8', '0123abcd')}"
    folder.mkdir(parents=True)
    settings = {
        "model": model,
        "seed": seed,
        "fold": f"speaker={fold:02d}",
        "labels": {"name": "made3", "classes": list(classes)},
        "corpora": ["emodb"],
        "features": {"audio": {"encoder": "whisper_x", "tokens": 32}, "text": None},
        "split": {"name": "loso-speaker", "hash": "5eed", "folds": 4, "leaks": []},
        "marks": [],
        "versions": {"multimodal-ser": "0.1.0"},
        "train": {"learning_rate": 0.001, "network": {}},
        "parameters": 12345,
    }
    settings |= config
    if model in ("linear", "svm"):  # baselines have no network
        settings["train"] = {k: v for k, v in settings["train"].items() if k != "network"}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "part", "speaker", "label", *(f"p_{name}" for name in classes)])
        who = f"{fold:02d}" if speaker else ""
        without = 0 if speaker is True else int(speaker)
        writer.writerow(["emodb/v", "validation", who, classes[0], *np.eye(len(classes))[1]])
        for place in of_run.permutation(rows):  # runs need not agree on the rows' order
            name = classes[truth[place]]
            row = [f"emodb/{fold}x{place}", "test", who if place >= without else "", name]
            writer.writerow([*row, *shares[place]])
    return folder


def write_experiment(root, models, folds=4, **settings):
    for model, (skill, seeds) in models.items():
        for seed in range(seeds):
            for fold in range(folds):
                write_run(root, model, fold, seed, skill=skill, **settings)
    return root


SOURCE = {
    "corpora": ["cremad"],
    "split": {"name": "speaker-5", "hash": "50ce", "fold": "0", "leaks": []},
    "run": "audio-0-seed0-01234567",
}


def write_systems(root, protocol, systems, folds=6, **settings):
    """Writes runs of a protocol; a system is a model, a skill, seeds, draws and train settings."""
    for place, (model, skill, seeds, draws, train) in enumerate(systems):
        for fold, seed, draw in np.ndindex(folds, seeds, draws):
            few = (
                {"few": {**train["few"], "draw": draw, "count": 7 + fold}} if "few" in train else {}
            )
            write_run(
                root,
                model,
                fold,
                seed,
                skill=skill,
                salt=f"{place}/{draw}",
                hash8=f"{place:04d}{draw:04d}",
                protocol=protocol,
                source=SOURCE | {"run": f"seed{seed}"},
                train={"learning_rate": 0.001, "network": {}, **train, **few},
                **settings,
            )
    return root


def write_adaptation(root, skills, seeds=2, **settings):
    """Writes runs of one network with each method, and logistic regression without any."""
    systems = [
        ("audio", skill, seeds, 1, {"adaptation": {"method": method, "weight": 0.1 * place}})
        for place, (method, skill) in enumerate(skills.items())
    ]
    plain = {"adaptation": {"method": "none", "weight": 0.0}}
    return write_systems(root, "adaptation", [*systems, ("linear", 0.8, 1, 1, plain)], **settings)


def write_fewshot(root, percentages=(10, 50, 100), draws=3, seeds=2, **settings):
    """Writes runs tuned from a source, from scratch and linear, for each share."""
    systems = []
    for place, percent in enumerate(percentages):
        few = {"few": {"percent": percent}}
        systems += [
            ("audio", 2.4 + 0.2 * place, seeds, draws, {"parts": "all", **few}),
            ("audio", 0.6 + 0.8 * place, seeds, draws, {"parts": "scratch", **few}),
            ("linear", 0.8 + 0.8 * place, 1, draws, {"parts": "scratch", **few}),
        ]
    return write_systems(root, "fewshot", systems, **settings)
