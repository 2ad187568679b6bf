"""Imported features and manifests that are exchanged: results follow what is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest
from multimodal_ser.errors import FeatureError, SplitError
from multimodal_ser.experiments import protocols, transfer
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.features import extract, import_features
from multimodal_ser.report import summarise
from test_extract import FakeEncoder
from test_identity import CLASSES, Bench, recorded


def imported(root, corpus, shift=0.0, order=None, **options):
    """Imports one vector an utterance whose sign tells the class."""
    draw = np.random.default_rng(len(corpus))
    rows = [
        Utterance(f"{corpus}/{s}{c}{k}", corpus, c, speaker=s)
        for s in "pqrs"
        for c in CLASSES
        for k in range(4)
    ]
    values = [
        draw.normal((1.0 if row.emotion == "anger" else -1.0) + shift, 0.1, 6) for row in rows
    ]
    order = list(range(len(rows))) if order is None else order
    ids = np.array([rows[place].id for place in order])
    np.savez(root / f"{corpus}.npz", audio=np.array(values), id=ids)
    import_features(
        root / f"{corpus}.npz", rows, root / "f", "emotion2vec-mine", "audio", **options
    )
    return load_domain(root / "f" / corpus, ",".join(CLASSES), "speaker")


def run_linear(domain, out):
    settings = {"seeds": 1, "network": ModelConfig(), "schedule": TrainConfig()}
    make_experiment(protocols.InDomain(models=("linear",), **settings).plan(*domain), out, jobs=1)
    return summarise(out).best.scores["UA"].mean


def test_a_corrected_import_is_another_result(tmp_path):
    mixed = np.random.default_rng(0).permutation(32).tolist()
    wrong = run_linear(imported(tmp_path, "one", order=mixed), tmp_path / "runs")
    right = run_linear(imported(tmp_path, "one", overwrite=True), tmp_path / "runs")
    assert wrong < 0.9 < right
    assert len(list((tmp_path / "runs" / "set-aside").iterdir())) == 4


@pytest.mark.parametrize(
    ("tokens", "read"), [(2, {"tokens": "pooled"}), (2, {"standardize_speakers": True}), (3, {})]
)
def test_results_of_replaced_features_stay_in_no_table_however_the_new_ones_are_read(
    tmp_path, tokens, read
):
    rows = recorded(tmp_path)
    draw = np.random.default_rng(0)

    def run(width, **read):
        values = draw.normal(size=(len(rows), width, 4))
        np.savez(tmp_path / "x.npz", audio=values, id=np.array([row.id for row in rows]))
        import_features(tmp_path / "x.npz", rows, tmp_path / "f", "x", "audio", overwrite=True)
        run_linear(load_domain(tmp_path / "f", ",".join(CLASSES), "speaker", **read), out)
        return {path.parent.name for path in out.glob("*/config.json")}

    out = tmp_path / "runs"
    old = run(2)
    assert not run(tokens, **read) & old
    assert {path.name for path in (out / "set-aside").iterdir()} == old
    assert len(summarise(out).rows) == 1


def by_speaker(values):
    groups = np.stack([values[n::4] for n in range(4)], 1)
    return ((groups - groups.mean(0)) / groups.std(0)).reshape(values.shape)


def quartiles_apart(values):
    low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
    return (values - middle) / (high - low)


def sure(values):
    """Probabilities of a classifier that is certain of each class now and then."""
    powers = np.exp(60 * np.eye(36, 16) + 5 * values)
    return powers / powers.sum(1, keepdims=True)


FITTED = {
    "": [
        lambda x: x,
        lambda x: (x - x[:20].mean(0)) / x[:20].std(0),
        lambda x: 1.0 * (x > 2),
        sure,
    ],
    "standardised, or transformed by PCA, over all": [
        lambda x: (x - x.mean(0)) / x.std(0),
        lambda x: (x - x.mean(0)).astype(np.float16),
        lambda x: (x - x.min(0)) / np.ptp(x, 0),
        lambda x: 2 * (x - x.min(0)) / np.ptp(x, 0) - 1,
        quartiles_apart,
    ],
    "standardised by speaker": [by_speaker],
}


@pytest.mark.parametrize(
    ("said", "fit"), [(said, fit) for said, fits in FITTED.items() for fit in fits]
)
def test_features_that_were_fitted_to_the_test_set_too_are_told_beside_every_result(
    tmp_path, caplog, said, fit
):
    draw = np.random.default_rng(0)
    words = [*CLASSES * 4, "joy"]  # the last is of no class below
    rows = [Utterance(f"my/{n:02}", "my", words[n // 4], speaker="pqrs"[n % 4]) for n in range(36)]
    values = fit(draw.normal(2.0, 1.5, (36, 16)))
    np.savez(tmp_path / "x.npz", audio=values, id=np.array([row.id for row in rows]))
    import_features(tmp_path / "x.npz", rows, tmp_path / "f", "x", "audio")
    material, _ = load_domain(tmp_path / "f", ",".join(CLASSES), "speaker")
    for told in (material.marks, caplog.messages):
        found = [one for one in told if "before they were imported" in one]
        assert len(found) == bool(said)
        assert said in "".join(found)


def test_a_contamination_declared_later_stands_beside_every_result(tmp_path):
    settings = {"seeds": 1, "network": ModelConfig(), "schedule": TrainConfig()}
    out = tmp_path / "runs"
    for models, saw in ((("linear", "svm"), "one=no"), (("linear",), "one=labels")):
        domain = imported(tmp_path, "one", trained_on=[saw], overwrite=True)
        make_experiment(protocols.InDomain(models=models, **settings).plan(*domain), out, jobs=1)
    found = summarise(out)
    seen = [note.letter for note in found.notes if "saw it with emotion labels" in note.text]
    assert [row.name for row in found.rows if not {*seen} <= {*row.notes}] == []
    assert seen


def test_a_manifest_that_replaces_another_says_what_changes(tmp_path, caplog):
    imported(tmp_path, "one")
    assert not caplog.records
    imported(tmp_path, "one", overwrite=True)
    assert not caplog.records
    rows = read_manifest(tmp_path / "f" / "one" / "manifest.jsonl")
    other = [replace(row, emotion="sadness") for row in rows[:2]] + rows[3:]
    other.append(replace(rows[2], id="one/new", speaker="z"))
    import_features(tmp_path / "one.npz", other, tmp_path / "f", "more", "audio")
    assert caplog.messages == [
        f"{tmp_path}/f/one/manifest.jsonl, which all features in that folder are read with, is "
        "replaced: of its utterances 2 with another emotion, 1 gone, 1 new"
    ]
    (tmp_path / "f" / "one" / "manifest.jsonl").write_text("{\n")
    import_features(tmp_path / "one.npz", other, tmp_path / "f", "third", "audio")
    assert "it could not be read" in caplog.text


def test_features_imported_from_two_files_can_be_source_and_target(tmp_path):

    source, target = imported(tmp_path, "one"), imported(tmp_path, "other", shift=0.3)
    settings = {"seeds": 1, "network": ModelConfig(), "schedule": TrainConfig()}
    experiment = transfer.Adaptation(methods=("none",), model="audio", **settings).plan(
        *source, *target
    )
    assert len(experiment.plans) == 8
    marks = experiment.plans[0].config.marks
    assert any("were imported: what made them is known by name" in mark for mark in marks)


def test_equal_features_in_training_and_test_are_a_leak(tmp_path):
    draw = np.random.default_rng(0)
    rows = []
    for corpus in ("one", "other"):
        part = [
            Utterance(f"{corpus}/{s}{c}", corpus, c, speaker=s) for s in "pqrs" for c in CLASSES
        ]
        rows.append(part)
    values = draw.normal(size=(8, 6))
    copied = values.copy()
    copied[7] = copied[0]
    for corpus, part in zip(("one", "other"), rows, strict=True):
        ids = np.array([row.id for row in part])
        np.savez(tmp_path / f"{corpus}.npz", audio=copied if corpus == "one" else values, id=ids)
        import_features(tmp_path / f"{corpus}.npz", part, tmp_path / "f", "mine", "audio")
    with pytest.raises(SplitError, match=r"1 recordings stand both.*'one/panger' and 'one/ssad"):
        load_domain(tmp_path / "f" / "one", ",".join(CLASSES), "speaker")
    source = load_domain(tmp_path / "f" / "one", ",".join(CLASSES), "speaker", allow=("recording",))
    target = load_domain(tmp_path / "f" / "other", ",".join(CLASSES), "speaker")
    settings = {"seeds": 1, "network": ModelConfig(), "schedule": TrainConfig()}
    adaptation = transfer.Adaptation(methods=("none",), model="audio", **settings)
    with pytest.raises(SplitError, match=r"recordings of the target's test parts are also in"):
        adaptation.plan(*source, *target)


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_features_and_a_manifest_of_other_recordings_do_not_match(tmp_path, modality):
    bench = Bench(tmp_path)
    bench.run()
    other = recorded(tmp_path / "other")
    draw = np.random.default_rng(7)
    for row in other:
        soundfile.write(row.audio, draw.uniform(-0.5, 0.5, 1600), 16_000)
    labels = [other[-1 - place].emotion for place in range(len(other))]
    other = [
        replace(row, emotion=label, text=f"{row.text} indeed")
        for row, label in zip(other, labels, strict=True)
    ]
    encoder = FakeEncoder(modality=modality, name=f"my-{modality}")
    extract(other, encoder, tmp_path / "features", tokens=1, overwrite=True)
    what = "words" if modality == "audio" else "recordings"  # the other file is the one left behind
    with pytest.raises(FeatureError, match=f"24 of its 24 utterances.*other {what} than"):
        load_domain(tmp_path / "features" / "my", ",".join(CLASSES), "speaker")


def test_an_extraction_killed_before_its_end_leaves_the_old_manifest(tmp_path):
    class Killed(FakeEncoder):
        def __call__(self, items):
            raise KeyboardInterrupt

    bench = Bench(tmp_path)
    bench.run()
    manifest = tmp_path / "features" / "my" / "manifest.jsonl"
    before = manifest.read_bytes()
    other = [replace(row, emotion="anger") for row in bench.rows]
    with pytest.raises(KeyboardInterrupt):
        extract(other, Killed(name="my-audio"), tmp_path / "features", tokens=1, overwrite=True)
    assert manifest.read_bytes() == before


def test_rows_are_paired_in_the_order_of_an_unsorted_table(tmp_path):
    from multimodal_ser.corpora import own as table

    draw = np.random.default_rng(3)
    rows = [(f"{s}{c}{k}.wav", c, s) for s in "pqrs" for c in CLASSES for k in range(5)]
    rows = [rows[place] for place in draw.permutation(len(rows))]
    for place, (name, _, _) in enumerate(rows, 1):  # equal recordings would be a leak
        soundfile.write(tmp_path / name, np.full(1600, 0.001 * place), 16_000)
    lines = ["audio,emotion,speaker", *(",".join(row) for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    write_manifest(table.read_table(tmp_path / "t.csv", "my").utterances, tmp_path / "m.jsonl")
    utterances = read_manifest(tmp_path / "m.jsonl")
    assert [Path(row.audio).name for row in utterances] == [name for name, _, _ in rows]
    mean = [1.0 if emotion == "anger" else -1.0 for _, emotion, _ in rows]
    np.save(tmp_path / "x.npy", draw.normal(0, 0.2, (len(rows), 8)) + np.array(mean)[:, None])
    import_features(tmp_path / "x.npy", utterances, tmp_path / "f", "m", "audio", rows="manifest")
    domain = load_domain(tmp_path / "f" / "my", ",".join(CLASSES), "speaker")
    assert run_linear(domain, tmp_path / "r") == 1.0
