"""`ser train --tune-encoder`: recordings in, a run beside the others of its table out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from made_encoders import tiny
from multimodal_ser.cli import main
from multimodal_ser.config.settings import ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.exposure import write_tuned_on
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.experiments.plans import plan_runs
from multimodal_ser.experiments.running import run_all
from multimodal_ser.predict import load
from multimodal_ser.runs.folder import is_complete

RATE = 16_000
QUICK = ["--tune.epochs", "1", "--tune.probe-epochs", "1", "--tune.frozen-blocks", "3"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Three speakers, two classes, 36 tones; whisper-tiny's features of them."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    lines = ["audio,emotion,speaker"]
    for place in range(36):
        time = np.arange(int(0.4 * RATE)) / RATE
        hertz = (300, 1_500)[place % 2] * rng.uniform(0.9, 1.1)
        file = root / f"{place}.wav"
        soundfile.write(file, 0.3 * np.sin(2 * np.pi * hertz * time), RATE)
        lines.append(f"{file.name},{('sadness', 'anger')[place % 2]},s{place // 2 % 3}")
    (root / "tones.csv").write_text("\n".join(lines))
    manifest = root / "tones.jsonl"
    assert (
        main(["manifest", "table", "--root", str(root / "tones.csv"), "--out", str(manifest)]) == 0
    )
    out = root / "features"
    given = ["--manifest", str(manifest), "--out", str(out)]
    assert main(["extract", *given, "--audio", "whisper-tiny", "--audio-tokens", "1"]) == 0
    return out / "tones"


@pytest.fixture(scope="module")
def experiment(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    given = ["--features", str(features), "--labels", "anger,sadness", "--split", "speaker"]
    more = ["--model", "linear", "--baselines", "--seeds", "1", "--jobs", "1"]
    assert main(["train", *given, *more, "--out", str(out), "--tune-encoder", *QUICK]) == 0
    return out


def test_it_is_in_one_table_with_the_other_models(experiment, capsys):
    folders = sorted(path.name.split("-")[0] for path in experiment.iterdir() if path.is_dir())
    assert folders == ["linear"] * 3 + ["tuned"] * 3
    assert all(is_complete(path) for path in experiment.iterdir() if path.is_dir())
    assert not list(experiment.glob(".*checkpoint"))
    assert main(["report", str(experiment), "--out", str(experiment / "report")]) == 0
    assert "tuned" in capsys.readouterr().out


def test_all_rows_of_the_table_test_the_same_utterances(experiment):
    asked = {}
    for path in experiment.glob("*/predictions.csv"):
        rows = [line.split(",")[:4] for line in path.read_text().splitlines()]
        asked.setdefault(json.loads((path.parent / "config.json").read_text())["fold"], []).append(
            rows
        )
    assert len(asked) == 3
    assert all(first == second for first, second in asked.values())


def test_its_model_predicts_from_a_recording(experiment, features):
    (folder, *_) = sorted(experiment.glob("tuned-*"))
    predictor = load(folder)
    predictor.vad = "none"  # the recordings are tones
    assert predictor.labels == ("anger", "sadness")
    rows = [json.loads(line) for line in (features / "manifest.jsonl").read_text().splitlines()]
    stated = {}
    for line in (folder / "predictions.csv").read_text().splitlines()[1:]:
        key, *_, anger, _ = line.split(",")
        stated[key] = float(anger)
    row = next(row for row in rows if row["id"] in stated)
    said = predictor(row["audio"])
    assert said.probabilities[0] == pytest.approx(stated[row["id"]], abs=1e-3)


def test_a_head_of_another_encoder_is_refused(features):
    material, made = load_domain(features, "anger,sadness", "speaker")
    material.features["audio"] = replace(material.features["audio"], encoder="egemaps")
    with pytest.raises(SerError, match=r"--tune-encoder fine-tunes whisper-tiny.*of egemaps"):
        plan_runs(material, made, (), 1, ModelConfig(), TrainConfig(), tune=TuneConfig())


@pytest.mark.parametrize("lacks", ["a class", "a validation part"])
def test_a_fold_that_nothing_can_be_learnt_from_is_told(features, tmp_path, lacks):
    material, made = load_domain(features, "anger,sadness", "speaker")
    fold = made.folds[0]
    one_class = tuple(key for key in fold.train if int(key.rpartition("/")[2]) % 2)
    fold = replace(fold, **{"a class": {"train": one_class}}.get(lacks, {"validation": ()}))
    split = replace(made, folds=(fold,))
    plans = plan_runs(material, split, (), 1, ModelConfig(), TrainConfig(), tune=TuneConfig())
    with pytest.raises(SerError, match="two classes and an utterance to select by are needed"):
        run_all(plans, material, tmp_path)


def test_any_encoder_is_tuned_and_predicts(features, tmp_path, monkeypatch):
    """A network of transformers with a low-rank update and a learnt sum of all its layers."""
    weights, out = tiny("wav2vec2", tmp_path), tmp_path / "features"
    extract = ["--manifest", str(features / "manifest.jsonl"), "--out", str(out)]
    own = ["--audio", "own", "--audio-source", str(weights), "--layers", "all"]
    coarse = ["--audio-tokens", "4", "--audio-dtype", "bfloat16"]
    assert main(["extract", *extract, *own, *coarse]) == 0
    given = ["--features", str(out), "--labels", "anger,sadness", "--split", "speaker"]
    more = ["--model", "linear", "--baselines", "--seeds", "1", "--jobs", "1", "--tune-encoder"]
    how = ["--tune.epochs", "1", "--tune.probe-epochs", "1", "--tune.method", "low-rank"]
    how += ["--tune.source", str(weights), "--tune.hidden-dim", "8", "--tune.rank", "2"]
    runs = tmp_path / "runs"
    assert main(["train", *given, *more, "--out", str(runs), *how]) == 0
    folder = min(runs.glob("tuned-*"))
    config = json.loads((folder / "config.json").read_text())
    assert set(config["layer_weights"]["audio"]) == {"0", "1", "2", "3"}
    assert "compute_dtype" not in config["features"]["audio"]  # an encoder learns in float32
    assert (folder / "encoder-audio.safetensors").stat().st_size < 100_000
    predictor = load(folder, weights=weights)
    predictor.vad = "none"
    saved = load(folder, weights=weights).save(tmp_path / "saved")

    def fetched(repo_id, revision, allow_patterns):
        (tmp_path / "fetched").mkdir()
        for pattern in allow_patterns:
            for file in saved.glob(pattern):
                shutil.copy(file, tmp_path / "fetched")
        return str(tmp_path / "fetched")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    again = load("hub:me/model", weights=weights)
    again.vad = "none"
    stated = {}
    for line in (folder / "predictions.csv").read_text().splitlines()[1:]:
        key, *_, anger, _ = line.split(",")
        stated[key] = float(anger)
    rows = [json.loads(line) for line in (features / "manifest.jsonl").read_text().splitlines()]
    for row in [row for row in rows if row["id"] in stated][:3]:
        for one in (predictor, again):
            said = one(row["audio"]).probabilities[0]
            assert said == pytest.approx(stated[row["id"]], abs=1e-3)
    (tmp_path / "fetched" / "encoder-audio.safetensors").unlink()
    with pytest.raises(SerError, match=r"lacks what its encoder learnt.* encoder-audio\.safeten"):
        load(tmp_path / "fetched", weights=weights)
    merged = tmp_path / "merged"
    words = ["merge-encoder", str(folder), "--source", str(weights), "--out", str(merged)]
    assert main(words) == 0
    info = load_encoder("own", merged).info
    assert info.emotion_labels.saw == info.exposure["tones"].saw == "labels"
    assert info.exposure["emodb"].saw == "unknown"
    # what the weights had learnt before, the new ones have learnt, too
    write_tuned_on(weights, ["emodb"], "emodb7", {})
    assert main(words) == 0
    exposure = load_encoder("own", merged).info.exposure
    assert {name for name, one in exposure.items() if one.saw == "labels"} == {"tones", "emodb"}
    assert "emodb7" in exposure["emodb"].source
    before, after = load_encoder("own", weights), load_encoder("own", merged)
    wave = np.sin(np.arange(8_000, dtype=np.float32) / 9)
    assert not np.array_equal(before([wave])[0], after([wave])[0])


@pytest.mark.slow  # two processes start
def test_two_processes_train_as_one_does(features, tmp_path):
    pytest.importorskip("lightning_fabric")
    split = {"train": ["s0"], "dev": ["s1"], "test": ["s2"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    given = ["--features", str(features), "--labels", "anger,sadness", "--model", "linear"]
    given += ["--split", str(tmp_path / "split.json"), "--baselines", "--seeds", "1"]
    # batches of 11 and 1: one process has nothing of the last
    how = ["--tune.epochs", "2", "--tune.batch-size", "11", "--tune.no-augment"]
    how += ["--tune.dropout", "0", "--tune.probe-epochs", "1", "--tune-encoder", "--device"]
    said = {}
    for device in ("cpu", "cpu,cpu"):
        assert main(["train", *given, *how, device, "--out", str(tmp_path / device)]) == 0
        (folder,) = (tmp_path / device).glob("tuned-*")
        rows = [row.split(",") for row in (folder / "predictions.csv").read_text().splitlines()]
        history = [json.loads(row) for row in (folder / "history.jsonl").read_text().splitlines()]
        numbers = [list(map(float, row[-2:])) for row in rows[1:]]
        said[device] = [row[:-2] for row in rows], numbers, history
    assert said["cpu"][0] == said["cpu,cpu"][0]
    np.testing.assert_allclose(said["cpu"][1], said["cpu,cpu"][1], atol=1e-4)
    for one, two in zip(said["cpu"][2], said["cpu,cpu"][2], strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    assert said["cpu"][2][-1]["train_loss"] != said["cpu"][2][-2]["train_loss"]


def test_several_devices_are_for_encoders_alone(features, tmp_path, capsys):
    given = ["--features", str(features), "--labels", "anger,sadness", "--model", "linear"]
    assert main(["train", *given, "--device", "cpu,cpu", "--out", str(tmp_path)]) == 1
    assert "several devices are for --tune-encoder" in capsys.readouterr().err
