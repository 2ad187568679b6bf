"""Comparing experiments, choosing hyperparameters, and explaining predictions."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from made_features import made_arrays, made_folder, made_rows, write_features
from multimodal_ser.cli import main
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.dataset.material import load_material
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import tuning
from multimodal_ser.experiments.attention import attention_maps
from multimodal_ser.experiments.explain import MOMENTS, explain, measured, shuffled
from multimodal_ser.experiments.protocols import InDomain
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.experiments.tuning import TuningBudget, tune_hyperparameters, with_settings
from multimodal_ser.models.fusion import MODELS, Dims
from multimodal_ser.models.layers import AttentionBlock, Output, masked_mean
from multimodal_ser.report.compute import summarise
from multimodal_ser.runs import folder
from multimodal_ser.runs.model_file import build_model, load_model
from multimodal_ser.runs.predictions import write_predictions
from multimodal_ser.splits import make_split
from multimodal_ser.training.baselines import Linear

NETWORK = ModelConfig(members=1, hidden_dim=8, num_heads=2)
QUICK = TrainConfig(epochs=1, least_steps=1)
SMALL = [
    "--network.members", "1", "--network.hidden-dim", "8", "--network.num-heads", "2",
    "--schedule.epochs", "1", "--schedule.least-steps", "1", "--jobs", "1", "--seeds", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """The sound tells the class, the words tell nothing; one to four tokens."""
    rows = made_rows(64, speakers=4)
    folder = made_folder(tmp_path_factory.mktemp("features"), rows, ("audio",), skill=3.0)
    words = made_arrays(rows, "text", skill=0.0)
    write_features(folder / "made-text.safetensors", words, "text")
    return folder


def ser(capsys, *words):
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_experiments_are_compared_in_one_table(features, tmp_path, capsys):
    for name, model, text in (("both", "concat", "made-text"), ("sound", "audio", "none")):
        command = ["train", "--features", features, "--labels", "common4", "--folds", "2",
                   "--model", model, "--text", text, *SMALL]  # fmt: skip
        assert ser(capsys, *command, "--out", tmp_path / name)[0] == 0
    code, out, _ = ser(
        capsys, "compare", tmp_path / "both", tmp_path / "sound", "--out", tmp_path / "page"
    )
    assert code == 0
    assert "concat" in out
    assert "linear (both)" in out
    assert "linear (sound)" in out
    assert (tmp_path / "page" / "report.html").is_file()
    assert "the best against each other" in (tmp_path / "page" / "report.html").read_text()
    code, _, err = ser(capsys, "compare", tmp_path / "both")
    assert (code, "give two or more" in err) == (1, True)
    other = ["train", "--features", features, "--labels", "common4", "--folds", "4", "--model",
             "linear", *SMALL, "--out", tmp_path / "four"]  # fmt: skip
    assert ser(capsys, *other)[0] == 0
    code, _, err = ser(capsys, "compare", tmp_path / "both", tmp_path / "four")
    assert (code, "different splits" in err) == (1, True)


def test_hyperparameters_are_chosen_on_validation_rows_only(features, tmp_path):
    pytest.importorskip("optuna")
    material = load_material(features, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=2)
    one = replace(split, folds=(replace(split.folds[0], name="speaker=../../x"),))
    budget = TuningBudget(trials=3, seeds=1, jobs=1)
    summary = tune_hyperparameters(material, one, tmp_path / "a", budget, "concat", NETWORK, QUICK)
    chosen = json.loads((tmp_path / "a" / "chosen.json").read_text())
    assert {path.name for path in (tmp_path / "a").iterdir() if path.is_dir()} <= {
        "trials", "chosen", "recommended",
    }  # fmt: skip
    (said,) = chosen.values()
    assert said["settings"] == 3
    assert said["validation loss"] <= said["recommended"]
    assert {row.name for row in summary.rows} == {"concat, chosen", "concat", "linear"}
    assert any("recommended" in versus.family for versus in summary.versus)
    label = material.examples.label.clone()
    tested = [material.examples.places[key] for key in one.folds[0].test]
    label[tested] = label[tested].roll(1)
    scrambled = replace(material, examples=replace(material.examples, label=label))
    tune_hyperparameters(scrambled, one, tmp_path / "b", budget, "concat", NETWORK, QUICK)
    assert json.loads((tmp_path / "b" / "chosen.json").read_text()) == chosen
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("model.safetensors")}
    tune_hyperparameters(material, one, tmp_path / "a", budget, "concat", NETWORK, QUICK)
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_a_search_trains_where_it_is_asked_to(features, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    material = load_material(features, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=2)
    asked, run_all = [], tuning.run_all

    def on_the_cpu(*given, device, **how):
        asked.append(device)
        return run_all(*given, **how)

    monkeypatch.setattr(tuning, "check_device", str)
    monkeypatch.setattr(tuning, "run_all", on_the_cpu)
    budget = TuningBudget(trials=1, seeds=1, jobs=1, device="cuda")
    tune_hyperparameters(material, split, tmp_path, budget, "concat", NETWORK, QUICK)
    assert asked == ["cuda"] * 4  # a trial of each fold, the recommended runs and the chosen ones


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--device", "banana"], "cannot compute on device 'banana'"),
        (["--dry-run"], "ser tune has no option --dry-run"),
        (["--log", "mlflow"], "ser tune has no option --log"),
        (["--engine", "ray"], "ser tune has no option --engine"),
    ],
)
def test_ser_tune_passes_over_no_option(features, tmp_path, capsys, option, reason):
    given = ["tune", "--features", features, "--labels", "common4", "--out", tmp_path / "out"]
    try:
        code, _, said = ser(capsys, *given, *option)
    except SystemExit as stop:
        code, said = stop.code, capsys.readouterr().err
    assert code
    assert reason in said
    assert not list(tmp_path.rglob("config.json"))


class _Narrow(nn.Module):
    """A network of a user's own that diverges unless it is 8 wide, as the recommended one."""

    modalities = ("audio",)

    def __init__(self, dims, config):
        super().__init__()
        self.classify = nn.Linear(dims.audio, dims.classes)
        self.scale = 1.0 if config.hidden_dim == 8 else float("nan")

    def forward(self, text, text_mask, audio, audio_mask):
        mean = masked_mean(audio, audio_mask)
        return Output(self.classify(mean) * self.scale, mean)


def test_a_setting_that_fails_does_not_end_the_search(features, tmp_path, monkeypatch, caplog):
    pytest.importorskip("optuna")
    monkeypatch.setitem(MODELS, "narrow", _Narrow)
    material = load_material(features, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=2)
    one = replace(split, folds=split.folds[:1])
    budget = TuningBudget(trials=3, seeds=1, jobs=1)
    summary = tune_hyperparameters(material, one, tmp_path, budget, "narrow", NETWORK, QUICK)
    (said,) = json.loads((tmp_path / "chosen.json").read_text()).values()
    assert (said["knobs"], said["settings"], said["failed"]) == ({}, 1, 2)
    assert {row.name for row in summary.rows} == {"narrow, chosen", "narrow", "linear"}
    assert caplog.text.count("fails: _Narrow: the training diverged") == 2
    with pytest.raises(SerError, match="diverged"):  # the recommended one has to be there
        tune_hyperparameters(
            material, one, tmp_path, budget, "narrow", replace(NETWORK, hidden_dim=16), QUICK
        )


def test_a_full_disk_ends_the_search_instead_of_passing_settings_over(
    features, tmp_path, monkeypatch
):
    pytest.importorskip("optuna")
    material, write, tried = load_material(features, class_set("common4")), write_predictions, []

    def filling(path, *rest):
        tried.append(path)
        if len(tried) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, *rest)

    monkeypatch.setattr(folder, "write_predictions", filling)
    split = make_split(material.utterances, "speaker", folds=2)
    budget = TuningBudget(trials=4, seeds=1, jobs=1)
    with pytest.raises(SerError, match="No space left on device"):
        tune_hyperparameters(material, split, tmp_path, budget, "concat", NETWORK, QUICK)
    assert len(tried) == 2


def test_after_labels_were_corrected_no_folder_of_a_search_mixes_old_runs_and_new(
    features, tmp_path
):
    pytest.importorskip("optuna")
    material = load_material(features, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=2)
    label = material.examples.label.roll(1)
    other = replace(material, examples=replace(material.examples, label=label))
    for one in (material, other):
        budget = TuningBudget(trials=1, seeds=1, jobs=1)
        summary = tune_hyperparameters(one, split, tmp_path, budget, "concat", NETWORK, QUICK)
    shown = {row.name: row.confusion.tolist() for row in summary.rows}
    for kind in ("recommended", "chosen"):
        for row in summarise(tmp_path / kind).rows:
            assert row.confusion.tolist() == shown[row.name]


def test_a_budget_of_time_ends_the_search(features, tmp_path, capsys):
    pytest.importorskip("optuna")
    command = ["tune", "--features", features, "--labels", "common4", "--folds", "2", "--trials",
               "1000", "--minutes", "0", *SMALL, "--out", tmp_path / "out"]  # fmt: skip
    code, out, _ = ser(capsys, *command)
    assert code == 0
    assert "cross_attention, chosen" in out
    chosen = json.loads((tmp_path / "out" / "chosen.json").read_text())
    assert [one["settings"] for one in chosen.values()] == [1, 1]


def test_hyperparameters_are_set_in_their_configs():
    network, schedule = with_settings(
        ModelConfig(), TrainConfig(), {"network.dropout": 0.2, "schedule.batch_size": 32}
    )
    assert (network.dropout, schedule.batch_size) == (0.2, 32)
    assert network.hidden_dim == ModelConfig().hidden_dim


@pytest.fixture(scope="module")
def runs(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    material = load_material(features, class_set("common4"))
    split = make_split(material.utterances, "speaker", folds=2)
    schedule = TrainConfig(epochs=5, least_steps=80)
    asked = InDomain(models=("concat", "svm"), seeds=1, network=NETWORK, schedule=schedule)
    make_experiment(asked.plan(material, split), out, jobs=1)
    return out


@pytest.mark.parametrize("model", ["concat", "svm"])
def test_explanations_find_the_features_that_predict_the_class(features, runs, model):
    found = explain(next(runs.glob(f"{model}-0-*")), features, class_set("common4"))
    for what in ("hidden", "another's"):
        assert found.modalities["audio"][what] > 0.3
        assert abs(found.modalities["text"][what]) < found.modalities["audio"][what] / 4
    best = [next(iter(found.features[side].values())) for side in ("audio", "text")]
    assert best[0] > 2 * best[1]
    assert len(found.features["audio"]) == 8
    assert len(found.moments["audio"]) == MOMENTS
    assert found.likeness < 0.9


def test_no_feature_is_taken_from_an_utterance_that_lacks_the_modality():
    draw = torch.Generator().manual_seed(0)
    words = 50 + torch.randn(40, 1, 3, generator=draw)  # zero is far from every value
    mask = (torch.arange(40) % 2 == 0)[:, None]
    text = Modality(words * mask[..., None], mask)
    label = torch.randint(0, 2, (40,), generator=draw)
    examples = Examples(tuple(map(str, range(40))), text, Modality.absent(40), label)
    torch.manual_seed(0)
    model = Linear(Dims(3, 0, 2), ["text"])
    model.pooled.fit(examples)
    assert max(measured(model, examples)[2]["text"].values()) < 1


def test_shuffled_weights_give_another_map(features, runs):
    folder = next(runs.glob("concat-0-*"))
    material = load_material(features, class_set("common4"))
    model = load_model(folder / "model.safetensors")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    maps = [measured(one, material.examples)[0] for one in (model, shuffled(model, 1))]
    assert maps[0]["audio"]["hidden"] > 0.3
    assert abs(maps[1]["audio"]["hidden"]) < maps[0]["audio"]["hidden"] / 2
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = measured(model, material.examples)[0]
    assert np.allclose(again["audio"]["hidden"], maps[0]["audio"]["hidden"])


def test_attention_maps_show_the_moments_that_are_weighed():
    draw = np.random.default_rng(0)
    sound = draw.normal(0, 1, (60, 10, 6)).astype("f4")
    sound[:, :2, 5] += 4  # a mark of the first fifth
    sides = (Modality.stack([*rows]) for rows in (draw.normal(size=(60, 5, 4)).astype("f4"), sound))
    examples = Examples(tuple(map(str, range(60))), *sides, torch.arange(60) % 3)
    torch.manual_seed(0)
    model = build_model("cross_attention", Dims(4, 6, 3), NETWORK)
    model.fit_inputs(examples)
    (network,) = model.members
    for block in network.modules():
        if isinstance(block, AttentionBlock):
            torch.nn.init.zeros_(block.attention.in_proj_weight)
    heard = []
    network.pool[1].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    even = attention_maps(model, examples)
    blocks = range(1, NETWORK.num_layers + 1)
    assert set(even) == {"text, pooled", "audio, pooled"} | {
        f"{pair}, block {n}" for pair in ("text to audio", "audio to text") for n in blocks
    }
    # Queries and keys are zero: all tokens and the learnt key are weighed alike.
    attended = even["text to audio, block 1"]
    np.testing.assert_allclose(attended, np.ones((MOMENTS, MOMENTS + 1)), atol=1e-5)
    marked = heard[0][:, :2].mean((0, 1)) - heard[0][:, 2:].mean((0, 1))
    network.pool[1].score.weight.data = 3 * marked[None]
    told, lost = (attention_maps(one, examples) for one in (model, shuffled(model, 1)))
    assert told["audio, pooled"][0][0] > 2
    assert max(told["audio, pooled"][0][1:]) < 1
    assert abs(lost["audio, pooled"][0][0] - told["audio, pooled"][0][0]) > 0.5
    np.testing.assert_allclose(np.mean(told["audio, pooled"]), 1, atol=1e-5)


def test_a_run_is_explained_by_the_file_of_its_features_whatever_it_is_called(tmp_path, capsys):
    rows = made_rows(24, speakers=3)
    folder = made_folder(tmp_path, rows, ("audio",))
    (folder / "made-audio.safetensors").unlink()
    for name, skill in (("made-context3", 2.0), ("made", 0.0)):
        arrays = made_arrays(rows, "text", skill=skill)
        context = 3 if "context" in name else 0
        path = folder / f"{name}.safetensors"
        write_features(path, arrays, "text", encoder="made", context=context)
    out = tmp_path / "runs"
    command = ["train", "--features", folder, "--text", "made-context3", "--labels", "common4"]
    command += ["--model", "linear", "--folds", "3", "--out", out, *SMALL]
    assert ser(capsys, *command)[0] == 0
    found = explain(next(out.glob("linear-*")), folder, class_set("common4"))
    assert found.modalities["text"]["hidden"] > 0.3


def test_the_command_prints_what_was_found(features, runs, tmp_path, capsys):
    folder = next(runs.glob("concat-0-*"))
    code, out, _ = ser(
        capsys, "explain", folder, "--features", features, "--out", tmp_path / "e.json"
    )
    assert code == 0
    assert "audio: hidden " in out
    assert "correlation with a network of shuffled weights" in out
    assert "audio, pooled: " in out
    assert set(json.loads((tmp_path / "e.json").read_text())["modalities"]) == {"audio", "text"}
    with pytest.raises(SerError, match="no run folder"):
        explain(Path(tmp_path), features)
