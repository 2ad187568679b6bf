"""Fine-tuning and few-shot learning: where they begin, what is frozen, which labels they see."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from made_transfer import (
    COMMON,
    MODEL,
    by,
    config_of,
    make,
    rows_of,
    same_models,
    state_of,
    turned,
    without_labels,
)
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import failures, transfer
from multimodal_ser.runs.folder import is_complete


@pytest.fixture(scope="module")
def tuned(pair, tmp_path_factory):
    return make(transfer.Finetune(**MODEL).plan(*pair), tmp_path_factory.mktemp("tuned"))


def test_finetune_begins_with_one_source_model_a_seed(pair, tuned):
    out = tuned[0].parent
    (source,) = [f for f in out.iterdir() if f.is_dir() and f not in tuned]
    config = config_of(source)
    assert (config["protocol"], config["corpora"]) == ("source", ["first"])
    assert {row["id"].split("/")[0] for row in rows_of(source)} == {"first"}
    for folder in tuned:
        run = config_of(folder)
        scratch = run["train"]["parts"] == "scratch"
        assert run["source"]["run"] == (None if scratch else source.name)
    parts = [(c["model"], c["train"]["parts"]) for c in map(config_of, tuned)][::2]
    network = [("cross_attention", part) for part in ("none", "all", "head", "scratch")]
    assert parts == [*network, ("linear", "scratch")]


def test_frozen_weights_do_not_change_by_one_bit(tuned):
    runs = by(tuned, "train", "parts")
    start = state_of(runs["cross_attention", "none"])
    head, whole = (state_of(runs["cross_attention", part]) for part in ("head", "all"))
    free = {key for key in start if ".classify." in key}
    statistics = {key for key in start if key.startswith("standardize.")} | {"temperature"}
    body = start.keys() - free - statistics
    assert body
    assert all(head[key].equal(start[key]) for key in body)
    assert {key for key in free if not head[key].equal(start[key])} == free
    assert not any(whole[key].equal(start[key]) for key in body if start[key].numel() > 1)


def test_the_source_model_itself_is_the_sources(tuned):
    untouched = by(tuned, "train", "parts")["cross_attention", "none"]
    source = untouched.parent / config_of(untouched)["source"]["run"]
    assert same_models(untouched, source)


def test_tuning_begins_at_the_source_and_scratch_does_not(pair, tuned, tmp_path):
    """Another source changes what is tuned and leaves the controls as they are."""
    source, first, *target = pair
    other = turned(source, first.folds[0].train)
    planned = transfer.Finetune(**MODEL).plan(other, first, *target)
    made = by(make(planned, tmp_path), "train", "parts")
    for key, before in by(tuned, "train", "parts").items():
        assert same_models(before, made[key]) == (key[1] == "scratch")


def test_tuning_does_not_see_the_targets_test_labels(pair, tuned, tmp_path):
    *source, target, second = pair
    one = replace(second, folds=second.folds[:1])
    other = turned(target, one.folds[0].test)
    made = make(transfer.Finetune(**MODEL).plan(*source, other, one), tmp_path)
    for key, after in by(made, "train", "parts").items():
        before = by(tuned, "train", "parts")[key]
        assert same_models(before, after)
        assert without_labels(before) == without_labels(after)


FEW = {"percentages": (50.0, 100.0), "draws": 2}


@pytest.fixture(scope="module")
def few(pair, tmp_path_factory):
    return make(transfer.Fewshot(**MODEL, **FEW).plan(*pair), tmp_path_factory.mktemp("few"))


def test_fewshot_lists_shares_draws_and_controls(pair, few):
    said = [(c["model"], c["train"]["parts"], c["train"]["few"]) for c in map(config_of, few)]
    assert len(few) == len(
        {str(one) + config_of(f)["fold"] for one, f in zip(said, few, strict=True)}
    )
    for share in FEW["percentages"]:
        for draw in range(2):
            mine = [one for one in said if (one[2]["percent"], one[2]["draw"]) == (share, draw)]
            assert [one[:2] for one in mine[::2]] == [
                ("cross_attention", "all"),
                ("cross_attention", "scratch"),
                ("linear", "scratch"),
            ]
    train = [len(fold.train) for fold in pair[3].folds]
    assert {one[2]["count"] for one in said if one[2]["percent"] == 100} == set(train)
    assert (
        sum(
            config_of(path.parent)["protocol"] == "source"
            for path in few[0].parent.glob("*/config.json")
        )
        == 1
    )


def test_few_shots_use_their_own_validation(pair, few):
    for folder in few:
        config = config_of(folder)
        fold = pair[3].folds[int(config["fold"])]
        ids = {
            part: {r["id"] for r in rows_of(folder) if r["part"] == part}
            for part in ("validation", "test")
        }
        assert ids["validation"] < set(fold.train)
        assert not ids["validation"] & set(fold.validation)
        assert ids["test"] == set(fold.test)


def test_a_fewshot_model_sees_only_the_few_labels(pair, few, tmp_path):
    """Other labels of everything that is not among them change nothing."""
    *source, target, second = pair
    one = replace(second, folds=second.folds[:1])
    planned = transfer.Fewshot(**MODEL, percentages=(50.0,), draws=1).plan(*source, target, one)
    known = {*planned.plans[-1].fold.train, *planned.plans[-1].fold.validation}
    hidden = [key for key in target.examples.ids if key not in known]
    first, second = planned.stages
    other = replace(second, material=turned(target, hidden))
    made = make(replace(planned, stages=(first, other)), tmp_path)
    before = {
        (config["model"], config["train"]["parts"]): folder
        for folder, config in ((folder, config_of(folder)) for folder in few)
        if (config["fold"], config["train"]["few"]["draw"]) == ("0", 0)
        and config["train"]["few"]["percent"] == 50
    }
    assert len(made) == len(before) == 3
    for folder in made:
        config = config_of(folder)
        assert same_models(folder, before[config["model"], config["train"]["parts"]])


def test_a_class_that_the_targets_few_lack_is_survived(pair, tmp_path):
    *source, target, second = pair
    sad = {r.id for r in target.utterances if r.emotion == "sadness"}
    fold = second.folds[0]
    lacking = replace(fold, train=tuple(key for key in fold.train if key not in sad))
    one = replace(second, folds=(lacking,))
    planned = transfer.Fewshot(**MODEL, shots=(2,), draws=1).plan(*source, target, one)
    for folder in make(planned, tmp_path):
        assert config_of(folder)["train"]["few"] == {"shots": 2, "draw": 0, "count": 6}
        rows = [row for row in rows_of(folder) if row["part"] == "test"]
        assert {row["label"] for row in rows} == set(COMMON.classes)
        assert all(
            np.isfinite([float(row[f"p_{name}"]) for name in COMMON.classes]).all() for row in rows
        )


def test_what_starts_from_a_run_that_failed_is_not_made(pair, tmp_path, monkeypatch, caplog):
    make_run = failures.make_run

    def failing(bench, item):
        if item.config.protocol == "source":
            raise SerError("made to fail")
        return make_run(bench, item)

    monkeypatch.setattr(failures, "make_run", failing)
    with pytest.raises(SerError, match="made to fail"):
        make(transfer.Finetune(**MODEL).plan(*pair), tmp_path)
    made = [config_of(path.parent) for path in tmp_path.glob("*/config.json")]
    assert {config["model"] for config in made} == {"cross_attention", "linear"}
    assert {config["train"]["parts"] for config in made} == {"scratch"}
    assert "1 of " in caplog.text


def test_an_interrupted_fewshot_is_resumed(pair, few, tmp_path, monkeypatch):
    fits, make_run = [], failures.make_run

    def counted(bench, item, allowed=3):
        if len(fits) >= allowed:
            raise KeyboardInterrupt
        fits.append(item.config.folder)
        return make_run(bench, item)

    monkeypatch.setattr(failures, "make_run", counted)

    def begin():
        return make(transfer.Fewshot(**MODEL, **FEW).plan(*pair), tmp_path)

    with pytest.raises(KeyboardInterrupt):
        begin()
    left = sorted(path.parent.name for path in tmp_path.glob("*/config.json"))
    assert left == sorted(fits)
    assert all(is_complete(tmp_path / name) for name in left)
    monkeypatch.setattr(failures, "make_run", partial(counted, allowed=10**9))
    made = begin()
    assert len(fits) == len(set(fits)) == len(few) + 1
    for before, after in zip(few, made, strict=True):
        assert (before / "predictions.csv").read_bytes() == (after / "predictions.csv").read_bytes()
    begin()
    assert len(fits) == len(few) + 1
