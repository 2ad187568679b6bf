"""Plans and runs: no view of the test part, complete or absent folders, and resuming."""

import csv
import errno
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from made_features import made_folder, made_rows
from multimodal_ser.config.record import RunConfig
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.examples import Modality
from multimodal_ser.dataset.material import load_material, pooled
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics
from multimodal_ser.experiments import failures, plans, running
from multimodal_ser.experiments.fitting import one_thread
from multimodal_ser.models.fusion import MODELS, reads_dialogue
from multimodal_ser.report import summarise
from multimodal_ser.runs import folder as run_folder
from multimodal_ser.runs import model_file
from multimodal_ser.runs.folder import RUN_FILES, is_complete
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.splits import make_split
from multimodal_ser.training.baselines import BASELINES
from multimodal_ser.training.loop import predict

NETWORK = ModelConfig(members=2, hidden_dim=8, num_heads=2)
SCHEDULE = TrainConfig(epochs=4, batch_size=16, least_steps=1)
ALL = (*(name for name in MODELS if not reads_dialogue(name)), *BASELINES)
run_all = partial(running.run_all, jobs=1)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    rows = made_rows(48, speakers=4)
    folder = made_folder(tmp_path_factory.mktemp("features"), rows, skill=0.7, lacking={"mine/004"})
    return load_material(folder, class_set("common4"))


@pytest.fixture(scope="module")
def split(material):
    return make_split(material.utterances, "speaker")


def planned(material, split, models=ALL, seeds=1, network=NETWORK, schedule=SCHEDULE):
    return plans.plan_runs(material, split, models, seeds, network, schedule)


@pytest.fixture(scope="module")
def made(material, split, tmp_path_factory):
    """Every model's run of the first fold."""
    plans = [item for item in planned(material, split) if item.fold is split.folds[0]]
    return run_all(plans, material, tmp_path_factory.mktemp("runs"))


def rows_of(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_labels(folder):
    return [{key: v for key, v in row.items() if key != "label"} for row in rows_of(folder)]


def changed(material, split, *, labels=False, features=False):
    """The material with the first fold's test labels turned round, or its features replaced."""
    test = np.isin(material.examples.ids, split.folds[0].test)
    examples = material.examples
    if labels:
        label = examples.label.clone()
        label[test] = (label[test] + 1) % 4
        examples = replace(examples, label=label)
    if features:
        sides = {}
        for name in ("text", "audio"):
            side = getattr(examples, name)
            tokens = side.tokens.clone()
            tokens[test] = 50 * torch.randn_like(tokens[test]) * side.mask[test][..., None]
            sides[name] = Modality(tokens, side.mask)
        examples = replace(examples, **sides)
    return replace(material, examples=examples)


def test_a_plan_is_models_times_folds_times_seeds(material, split):
    plans = planned(material, split, ("concat", "linear"), seeds=3)
    cells = [(item.config.model, item.config.seed, item.fold.name) for item in plans]
    names = [fold.name for fold in split.folds]
    assert cells == [("concat", s, f) for s in range(3) for f in names] + [
        ("linear", 0, f) for f in names
    ]
    assert len({item.config.folder for item in plans}) == len(plans)


def test_an_unknown_model_names_the_known_ones(material, split):
    with pytest.raises(SerError) as caught:
        planned(material, split, ("concat", "gpt"))
    assert "'gpt'" in str(caught.value)
    assert all(name in str(caught.value) for name in ALL)


@pytest.mark.parametrize("name", ["text", "concat", "cross_attention"])
def test_a_model_whose_side_has_no_features_is_refused(tmp_path, name):
    rows = made_rows(48, speakers=4)
    one = load_material(made_folder(tmp_path, rows, ("audio",)), class_set("common4"))
    with pytest.raises(SerError, match=rf"'{name}' needs text features.*ser extract --text"):
        planned(one, make_split(rows, "speaker"), (name,))
    planned(one, make_split(rows, "speaker"), ("audio", "linear", "svm"))


def test_fit_cannot_see_test_labels(material, split, made, tmp_path):
    turned = changed(material, split, labels=True)
    plans = [item for item in planned(turned, split) if item.fold is split.folds[0]]
    moved = []
    for before, after in zip(made, run_all(plans, turned, tmp_path), strict=True):
        assert without_labels(after) == without_labels(before)
        weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
        assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])
        assert (after / "history.jsonl").read_text() == (before / "history.jsonl").read_text()
        first, second = (
            json.loads((folder / "metrics.json").read_text()) for folder in (before, after)
        )
        assert first["validation"] == second["validation"]
        moved.append(first["test"] != second["test"])
    assert sum(moved) >= len(moved) - 1  # one may get as many right of either labels


def test_fit_cannot_see_test_features(material, split, made, tmp_path):
    other = changed(material, split, features=True)
    plans = [item for item in planned(other, split) if item.fold is split.folds[0]]
    for before, after in zip(made, run_all(plans, other, tmp_path), strict=True):
        weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
        assert weights[0].keys() == weights[1].keys()
        assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])
        parts = [
            [row for row in rows_of(f) if row["part"] == "validation"] for f in (before, after)
        ]
        assert parts[0] == parts[1]
        assert rows_of(before) != rows_of(after)


def test_training_labels_are_seen(material, split, made, tmp_path):
    """The test above could not fail if labels had no effect at all."""
    examples = material.examples
    turned = replace(material, examples=replace(examples, label=(examples.label + 1) % 4))
    plans = [item for item in planned(turned, split) if item.fold is split.folds[0]]
    for before, after in zip(made, run_all(plans, turned, tmp_path), strict=True):
        assert without_labels(after) != without_labels(before)


def test_a_run_computes_on_one_thread_and_leaves_the_others_be():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_same_plan_gives_the_same_files(material, split, made, tmp_path):
    plans = [item for item in planned(material, split) if item.fold is split.folds[0]]
    for before, after in zip(made, run_all(plans, material, tmp_path), strict=True):
        assert before.name == after.name
        for name in sorted(set(RUN_FILES) - {"model.safetensors"}):
            assert (before / name).read_bytes() == (after / name).read_bytes()
        weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
        assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


def test_a_run_folder_has_its_files_and_no_pickle(made):
    for folder in made:
        assert sorted(path.name for path in folder.iterdir()) == sorted(RUN_FILES)
        assert is_complete(folder)
        for path in folder.iterdir():
            start = path.read_bytes()[:2]
            assert start not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")


def test_a_loaded_model_answers_what_the_predictions_say(material, split, made):
    place = {key: row for row, key in enumerate(material.examples.ids)}
    moved = []
    for folder in made:
        rows = rows_of(folder)
        assert {row["part"] for row in rows} == {"validation", "test"}
        assert {r["id"] for r in rows if r["part"] == "test"} == set(split.folds[0].test)
        asked = material.examples.take([place[row["id"]] for row in rows])
        shares = predict(load_model(folder / "model.safetensors"), asked).softmax(1).numpy()
        stated = [[float(row[f"p_{name}"]) for name in material.labels.classes] for row in rows]
        tested = [row["part"] == "test" for row in rows]
        stated = np.array(stated)
        np.testing.assert_allclose(shares[tested], stated[tested], atol=1e-6)
        learnt = ~np.array(tested)
        moved.append(np.abs(shares[learnt] - stated[learnt]).max() > 1e-3)
        truth = {row.id: row.emotion for row in material.utterances}
        assert all(row["label"] == truth[row["id"]] for row in rows)
        assert all(row["speaker"] for row in rows)
    assert any(moved)  # the validation part was predicted before the models learnt it too


def test_scores_are_those_of_the_predictions(material, made):
    classes = list(material.labels.classes)
    for folder in made:
        for part, scores in json.loads((folder / "metrics.json").read_text()).items():
            rows = [row for row in rows_of(folder) if row["part"] == part]
            truth = [classes.index(row["label"]) for row in rows]
            answer = [np.argmax([float(row[f"p_{name}"]) for name in classes]) for row in rows]
            matrix = metrics.confusion(truth, answer, len(classes))
            assert scores == {
                n: pytest.approx(float(of(matrix))) for n, of in metrics.METRICS.items()
            }


def test_what_is_no_model_file_is_refused(made, tmp_path):
    bad = tmp_path / "model.safetensors"
    whole = (made[0] / "model.safetensors").read_bytes()
    for content in (b"", b"nothing of the kind", whole[:100], whole[:-4]):
        bad.write_bytes(content)
        with pytest.raises(SerError, match=r"model\.safetensors: not a model"):
            load_model(bad)
    with pytest.raises(SerError, match="not a model"):
        load_model(tmp_path / "nowhere.safetensors")


def test_a_model_of_another_version_is_refused(made, tmp_path):
    path = made[0] / "model.safetensors"
    with safe_open(path, "pt") as file:
        said = file.metadata()
    other = {f"old.{key}": value for key, value in load_file(path).items()}
    save_file(other, tmp_path / "model.safetensors", said)
    with pytest.raises(SerError, match=r"another version.*train again"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("step", ["save_model", "write_predictions", "_write_json"])
def test_a_crash_leaves_no_run_folder_and_the_next_call_makes_it(
    material, split, tmp_path, monkeypatch, step
):
    plans = planned(material, split, ("linear",))

    def crash(*given, **how):
        raise RuntimeError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(model_file if step == "save_model" else run_folder, step, crash)
        with pytest.raises(RuntimeError, match="no space"):
            run_all(plans, material, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    with pytest.raises(SerError, match="no complete run"):
        summarise(tmp_path)
    folders = run_all(plans, material, tmp_path)
    assert sorted(path for path in tmp_path.iterdir()) == sorted(folders)
    assert all(is_complete(folder) for folder in folders)


def test_complete_runs_are_not_made_again(material, split, tmp_path, monkeypatch):
    fits, make = [], failures.make_run

    def counted(bench, item):
        fits.append(item.config.folder)
        return make(bench, item)

    monkeypatch.setattr(failures, "make_run", counted)
    plans = planned(material, split, ("concat", "linear"))
    folders = run_all(plans[:3], material, tmp_path)
    assert run_all(plans, material, tmp_path)[:3] == folders
    assert sorted(fits) == sorted(item.config.folder for item in plans)
    (folders[1] / "metrics.json").unlink()  # damaged: no longer complete
    run_all(plans, material, tmp_path)
    assert fits[len(plans) :] == [plans[1].config.folder]
    seen = []
    run_all(plans, material, tmp_path, on_run=seen.append)
    assert len(seen) == len(plans)
    assert len(fits) == len(plans) + 1


def test_no_later_run_of_a_chain_is_made_once_one_failed(material, split, tmp_path, monkeypatch):
    first, second, third, other = planned(material, split, ("linear",))
    chain = [first, replace(second, start=first.config.folder)]
    chain.append(replace(third, start=second.config.folder))
    tried = []

    def failing(bench, item):
        tried.append(item.config.folder)
        raise SerError("made to fail")

    monkeypatch.setattr(failures, "make_run", failing)
    stages = [plans.Stage((item,), material) for item in chain]
    stages.append(plans.Stage((other,), material))
    running._make_stages(stages, tmp_path, 1, "local", "cpu", tried.append)
    assert tried == [first.config.folder, other.config.folder]


def test_a_full_disk_ends_the_runs_at_once(material, split, tmp_path, monkeypatch):
    tried = []

    def full(path, *rest):
        tried.append(path)
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_folder, "write_predictions", full)
    with pytest.raises(SerError, match=r"No space left on device.*rerun the same command"):
        run_all(planned(material, split, ("linear",)), material, tmp_path)
    assert len(tried) == 1


def test_processes_side_by_side_give_the_same_runs(material, split, tmp_path):
    plans = planned(material, split, ("linear",))[:2]
    alone = run_all(plans, material, tmp_path / "alone")
    together = running.run_all(plans, material, tmp_path / "together", jobs=2)
    for one, other in zip(alone, together, strict=True):
        assert (one / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def test_a_run_that_fails_in_a_process_of_its_own_does_not_stop_the_others(
    material, split, tmp_path
):
    first, second, *_ = planned(material, split, ("linear",))
    empty = replace(first, fold=replace(first.fold, validation=()))
    with pytest.raises(SerError, match="an utterance to select by are needed") as caught:
        running.run_all([empty, second], material, tmp_path, jobs=2)
    assert "in _check_classes" in str(caught.value.__cause__)  # where, in the other process
    assert [path.name for path in tmp_path.iterdir()] == [second.config.folder]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker does its own imports")
def test_workers_begin_with_their_imports_done():
    with ProcessPoolExecutor(1, running._processes("cpu")) as pool:
        assert pool.submit(loaded, "torch._dynamo").result()
    assert running._processes("cuda").get_start_method() == "spawn"


def loaded(name):
    return name in sys.modules


def test_every_setting_changes_the_name_of_the_run(material, split):
    (item, *_) = planned(material, split, ("concat",))
    names = {item.config.hash}
    others = [
        replace(item.config, **{one.name: "other"})
        for one in fields(RunConfig)
        if one.name != "train"
    ]
    dialogues = pooled(material), split, ("dialogue",)
    others.append(planned(*dialogues)[0].config)
    for group, kind in (("network", NETWORK), ("schedule", SCHEDULE)):
        for key, value in asdict(kind).items():
            if isinstance(value, bool):
                different = not value
            elif value is None:
                different = "focal"
            else:  # shares stay below 1
                different = value / 2 if isinstance(value, float) else 2 * value + (not value)
            settings = {"network": NETWORK, "schedule": SCHEDULE}
            settings[group] = replace(kind, **{key: different})
            mine = dialogues if key in ("before", "after") else (material, split, ("concat",))
            others.append(planned(*mine, **settings)[0].config)
    names |= {config.hash for config in others}
    assert len(names) == 1 + len(others)
    assert planned(material, split, ("concat",))[0].config.hash == item.config.hash


def test_other_labels_of_the_same_utterances_make_other_runs(material, split):
    """Or a corrected label would meet the runs of the old one."""
    (item, *_) = planned(material, split, ("concat",))
    (other, *_) = planned(changed(material, split, labels=True), split, ("concat",))
    assert item.config.hash != other.config.hash
