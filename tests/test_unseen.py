"""Corpora left out: what is trained on, what is never used, and removal of the channel."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from made_features import FOUR, made_arrays, made_folder, made_rows, write_features
from multimodal_ser.cli import main
from multimodal_ser.encoders.whisper import WhisperEncoder
from multimodal_ser.errors import SerError
from multimodal_ser.predict import unseen
from multimodal_ser.training.schedule import TEMPERATURES
from multimodal_ser.training.tune.probe import (
    ProbeConfig,
    Vectors,
    fit_probe,
    layer_means,
    model_of,
    side_by_side,
)
from multimodal_ser.training.tune.tuned import log_mels

CONFIG = ProbeConfig((1, 2), axes=8)
NAMES = ("anger", "neutral", "sadness")
MIDDLES = np.random.default_rng(5).normal(0, 2, (3, 2, 4))  # classes, layers, width


def corpus(name, shift=0.0, count=90, classes=(0, 1, 2), change="none", seed=0):
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    label = np.array(classes)[np.arange(count) % len(classes)]
    mean = MIDDLES[label] + shift + rng.standard_normal((count, 2, 4))
    speaker = np.array([f"{name}/{k % 10}" for k in range(count)])
    return Vectors(
        mean.astype(np.float32), label, np.full(count, name), speaker, np.full(count, change)
    )


def ua(probe, data):
    said = probe.logits(probe.vectors(side_by_side(data, CONFIG.layers))).argmax(1)
    return np.mean([np.mean(said[data.label == k] == k) for k in set(data.label)])


def test_a_probe_uses_what_corpora_share():
    a, b = corpus("a"), corpus("b", shift=30.0)
    probe = fit_probe(Vectors.joined([a, b]), CONFIG, 3)
    assert probe.weight.shape == (3, 2)
    for data in (a, b):
        mean = np.mean([data.mean[data.label == k].mean(0) for k in range(3)], axis=0)
        centred = Vectors(data.mean - mean + 15, data.label, data.corpus, data.speaker, data.change)
        assert ua(probe, centred) > 0.9
    lacking = corpus("b", classes=(0, 1))
    with pytest.raises(SerError, match="b has no recording of class 2"):
        fit_probe(Vectors.joined([a, lacking]), CONFIG, 3)


def test_what_a_change_moves_all_copies_by_is_noise():
    clean = corpus("a", count=300)
    along = MIDDLES[0] - MIDDLES[1]  # a change that looks like another class
    changed = Vectors(
        clean.mean + along.astype(np.float32), clean.label, clean.corpus, clean.speaker,
        np.full(300, "line"),
    )  # fmt: skip
    alone, both = (fit_probe(one, CONFIG, 3) for one in (clean, Vectors.joined([clean, changed])))
    assert ua(both, changed) > ua(alone, changed) + 0.1


def test_a_probe_spreads_each_class_by_about_one():
    data = corpus("a", count=900)
    probe = fit_probe(data, CONFIG, 3)
    vectors = probe.vectors(side_by_side(data, CONFIG.layers))
    points = probe.embed(vectors)
    inside = [points[data.label == k].var(0).mean() for k in range(3)]
    assert 0.2 < np.mean(inside) < 1.1
    np.testing.assert_allclose(probe.embed(probe.references).mean(0), 0, atol=1e-8)


def test_the_nearest_reference_is_the_answer():
    data = corpus("a", count=900)
    probe = fit_probe(data, CONFIG, 3)
    vectors = probe.vectors(side_by_side(data, CONFIG.layers))
    way = np.square(vectors[:, None] - probe.references).sum(2)
    raw = probe.embed(vectors) @ probe.weight.T + probe.bias
    apart = [each - each.mean(1, keepdims=True) for each in (raw, -way)]
    scale = apart[1].std() / apart[0].std()
    np.testing.assert_allclose(apart[1], scale * apart[0], rtol=1e-6, atol=1e-6)
    means = np.stack([vectors[data.label == k].mean(0) for k in range(3)])
    assert (np.square(means[:, None] - probe.references).sum(2).argmin(1) == [0, 1, 2]).all()


def test_distant_recordings_get_lower_confidence():
    data = corpus("a", count=900)
    probe = fit_probe(data, CONFIG, 3)
    near = probe.vectors(side_by_side(data, CONFIG.layers))
    assert probe.distance(near).mean() == pytest.approx(1, rel=1e-2)
    off = np.linalg.svd(probe.span)[2][-1] * 6  # a direction that no class is told by
    np.testing.assert_allclose(probe.embed(near + off), probe.embed(near), atol=1e-8)
    assert (probe.distance(near + off) > 1.5 * probe.distance(near)).mean() > 0.9
    assert np.ptp(probe.logits(near + off), 1).mean() < 0.7 * np.ptp(probe.logits(near), 1).mean()


def test_no_corpus_is_trained_on_when_it_is_tested():
    data = [corpus("a"), corpus("b"), corpus("only", shift=5.0, classes=(0, 1))]
    heard = unseen.leave_one_out(Vectors.joined(data), ("a", "b"), CONFIG, 3)
    assert [one.corpus for one in heard] == ["a", "b", "only"]
    for place, sources in enumerate(([1], [0], [0, 1])):
        alone = fit_probe(Vectors.joined([data[k] for k in sources]), CONFIG, 3)
        np.testing.assert_allclose(heard[place].probe.white, alone.white, atol=1e-8)
    wrong = Vectors(*(np.roll(getattr(data[2], f), 7, 0) if f == "label" else getattr(data[2], f)
                      for f in Vectors.__dataclass_fields__))  # fmt: skip
    again = unseen.leave_one_out(Vectors.joined([*data[:2], wrong]), ("a", "b"), CONFIG, 3)
    np.testing.assert_array_equal(again[2].vectors, heard[2].vectors)
    with pytest.raises(SerError, match="two or more"):
        unseen.leave_one_out(Vectors.joined(data), ("a",), CONFIG, 3)
    with pytest.raises(SerError, match="unknown corpus 'c'; choose one of: a, b, only"):
        unseen.leave_one_out(Vectors.joined(data), ("a", "c"), CONFIG, 3)


def test_changed_copies_are_trained_on_but_not_tested():
    data = Vectors.joined([corpus("a"), corpus("a", change="line", seed=1), corpus("b")])
    heard = unseen.leave_one_out(data, ("a", "b"), CONFIG, 3)
    assert [len(one.label) for one in heard] == [90, 90]


def test_a_channel_is_removed_without_labels():
    moved = corpus("far", shift=2.0, count=600)
    data = Vectors.joined([corpus("a"), corpus("b"), moved])
    far = unseen.leave_one_out(data, ("a", "b"), CONFIG, 3)[2]
    found = unseen.adapted(far, 1.0, sizes=(10, 50, 400), draws=3)
    assert set(found.mixed) == {10, 50}  # 400 is more than half of the corpus
    assert found.mixed[50] > found.before + 0.05
    assert found.mixed[50] >= found.mixed[10] - 0.02
    assert set(found.skewed[50]) == {0, 1, 2}


def test_temperature_and_threshold_are_set_on_left_out_corpora():
    data = Vectors.joined([corpus("a", count=300), corpus("b", shift=0.7, count=300)])
    heard = unseen.leave_one_out(data, ("a", "b"), CONFIG, 3)
    calibration = unseen.calibrate_on(heard, right=0.9)
    both = [unseen.scores(one, calibration) for one in heard]
    assert np.mean([one["accuracy_above"] for one in both]) >= 0.9
    for said in both:
        assert 0 <= said["coverage"] <= 1
        assert said["low"] <= said["ua"] <= said["high"]


def test_no_label_of_a_tested_corpus_calibrates_its_predictions():
    others = [corpus("b", shift=0.7), corpus("c", shift=-0.5)]
    tested, found = corpus("a"), {}
    shuffled = replace(tested, label=np.random.default_rng(0).permutation(tested.label))
    for key, own in (("right", tested), ("wrong", shuffled)):
        made = unseen.protocol(Vectors.joined([own, *others]), "abc", CONFIG, NAMES, sizes=(10,))
        found[key] = {name: one["single"] for name, one in made["corpora"].items()}
    for name in ("confidence", "threshold", "coverage", "distance"):
        assert found["right"]["a"][name] == found["wrong"]["a"][name]
    assert found["right"]["a"]["ua"] > 0.6 > found["wrong"]["a"]["ua"]
    assert found["right"]["b"]["confidence"] != found["wrong"]["b"]["confidence"]


def test_corpora_are_tested_on_their_common_classes():
    data = Vectors.joined([corpus("a"), corpus("b"), corpus("only", classes=(0, 1))])
    found = unseen.protocol(data, ("a", "b"), CONFIG, NAMES, sizes=(10,))
    assert json.loads(json.dumps(found))["corpora"]["only"]["single"]["classes"] == 2
    assert set(found["corpora"]["a"]["adapted"]["skewed"][10]) == {*NAMES}
    restricted = unseen.protocol(
        data, ("a", "b"), CONFIG, NAMES, sizes=(10,), test_classes=NAMES[:2]
    )["corpora"]
    assert [one["single"]["classes"] for one in restricted.values()] == [2, 2, 2]
    assert [one["single"]["n"] for one in restricted.values()] == [60, 60, 90]
    assert restricted["only"]["single"]["ua"] == found["corpora"]["only"]["single"]["ua"]


def test_a_wrong_prediction_without_any_doubt_still_has_a_loss():
    class Sure:
        def logits(self, vectors, temperature):
            return 1e5 * temperature * vectors

    label = np.arange(3)
    wrong = unseen.LeftOut("b", Sure(), np.eye(3)[[1, 2, 0]], label, np.array(["b/1"] * 3))
    assert unseen.calibrate_on([wrong]).temperature == min(TEMPERATURES)


def test_a_rarer_class_is_predicted_less_mainly_without_strong_evidence():
    data = corpus("a", count=900)
    alike, rare = (fit_probe(data, replace(CONFIG, odds=odds), 3) for odds in ((), (2, 2, 1)))
    vectors = alike.vectors(side_by_side(data, CONFIG.layers))
    assert rare.shares == pytest.approx([0.4, 0.4, 0.2])
    shares = [softmax(one.logits(vectors), axis=1) for one in (alike, rare)]
    odds = shares[1] / shares[0]
    np.testing.assert_allclose(odds[:, 0] / odds[:, 2], 2)
    nothing = softmax(rare.logits(50 * vectors), axis=1)  # far from all that was learnt
    assert np.abs(nothing - rare.shares).mean() < np.abs(shares[1] - rare.shares).mean()
    with pytest.raises(SerError, match="allowed: 3 numbers above zero"):
        fit_probe(data, replace(CONFIG, odds=(1, 1)), 3)


def test_the_model_predicts_as_the_probe():
    torch.manual_seed(0)
    encoder = WhisperEncoder(dim=8, heads=2, depth=3, steps=200).eval()
    torch.nn.init.normal_(encoder.positions)
    encoder.cut(2)
    rng = np.random.default_rng(0)
    waves = [
        (rng.uniform(0.1, 0.3) * np.sin(np.arange(size) * pitch)).astype(np.float32)
        for size, pitch in zip(rng.integers(4_000, 9_000, 60), np.tile([0.1, 0.5], 30), strict=True)
    ]
    label = np.tile([0, 1], 30)
    with torch.inference_mode():
        mean = layer_means(encoder, waves).numpy()
    names = np.full(60, "made")
    data = Vectors(mean, label, names, names, np.full(60, "none"))
    probe = fit_probe(data, ProbeConfig((1, 2), axes=6, odds=(3, 1)), 2)
    model = model_of(probe, encoder, ("low", "high"), 0.5)
    with torch.inference_mode():
        read = model.pooled(*log_mels(waves))
        said = model.predict_from(read)
    vectors = probe.vectors(side_by_side(data, (1, 2)))
    np.testing.assert_allclose(read.numpy(), vectors, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        said.logits.numpy(), probe.logits(vectors, 0.5), rtol=1e-2, atol=1e-2
    )
    np.testing.assert_allclose(model.references.numpy(), probe.references, rtol=1e-5, atol=1e-6)
    assert (said.logits.argmax(1).numpy() == probe.logits(vectors, 0.5).argmax(1)).all()


def test_the_command_prints_and_writes_a_table(tmp_path, capsys):
    folders = []
    for place, (name, words) in enumerate((("a", FOUR), ("b", FOUR), ("only", FOUR[:3]))):
        rows = made_rows(90, words=words, corpus=name)
        made = made_folder(tmp_path / name, rows, ("audio",), skill=1.0, shift=0.1 * place)
        folders.append(str(made))
    given = ["unseen", "--features", *folders, "--labels", ",".join(FOUR), "--axes", "4"]
    out = tmp_path / "unseen.json"
    assert main([*given, "--learn", "a", "b", "--sizes", "10", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert set(found["corpora"]) == {"a", "b", "only"}
    shown = capsys.readouterr().out
    assert f"{100 * found['corpora']['only']['single']['ua']:.1f}" in shown
    assert "a and b: temperature and threshold were chosen with their labels, too" in shown
    assert main([*given, "--learn", "a", "b", "only"]) == 1
    assert f"only has no recording of {FOUR[3]}" in capsys.readouterr().err


def test_corpora_that_share_recordings_or_differ_in_features_are_refused(tmp_path, capsys):
    rows = {name: made_rows(60, words=FOUR, corpus=name) for name in "abc"}
    folders = [
        str(made_folder(tmp_path / name, rows[name], ("audio",), shift=shift))
        for shift, name in zip((0.0, 0.1, 0.0), rows, strict=True)
    ]
    given = ["unseen", "--labels", ",".join(FOUR), "--axes", "4", "--learn", "a", "b"]
    assert main([*given, "--features", *folders]) == 1
    assert "also in a corpus that is learnt from" in capsys.readouterr().err
    arrays = made_arrays(rows["c"], "audio", seed=2)
    write_features(Path(folders[2]) / "made-audio.safetensors", arrays, "audio", layers="2")
    assert main([*given, "--features", *folders]) == 1
    assert "audio features differ" in capsys.readouterr().err
