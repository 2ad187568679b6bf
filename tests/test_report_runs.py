"""Which runs a report puts together, which it leaves out and says so, which it refuses."""

import hashlib
import json
import re

import numpy as np
import pytest

from made_runs import CLASSES, write_experiment, write_run
from multimodal_ser.errors import SerError
from multimodal_ser.report import csv_tables, latex_table, report, summarise, text_table
from multimodal_ser.report.compute import summarise_all


def test_missing_runs_are_left_out_and_said(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 3), "linear": (1.0, 1)})
    (tmp_path / "audio-2-1-0123abcd" / "config.json").unlink()
    summary = summarise(tmp_path)
    row = next(row for row in summary.rows if row.name == "audio")
    assert row.seeds == (0, 2)
    assert "audio, seed 1, lacks fold speaker=02: seed 1 left out" in summary.missing
    assert "audio counts 2 of 3 seeds (0, 2)" in summary.missing
    assert "missing: audio, seed 1" in text_table(summary)
    assert "missing: audio, seed 1" in latex_table(summary)
    assert "audio, seed 1" in csv_tables(summary)["table.csv"]


def test_models_are_compared_on_common_folds_only(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1)}, folds=3)
    write_experiment(tmp_path, {"linear": (1.0, 1)}, folds=2)
    summary = summarise(tmp_path)
    assert summary.folds == ("speaker=00", "speaker=01")
    assert summary.utterances == 36
    assert summary.missing == (
        "linear has no run of fold speaker=02",
        "the table covers 2 of 3 folds, those that every model has",
        "3 of the split's 4 folds have been run",
    )


def test_unfinished_folders_are_ignored(tmp_path):
    experiment = write_experiment(tmp_path, {"linear": (1.0, 1)})
    before = text_table(summarise(experiment))
    (experiment / ".audio-0-0-partial").mkdir()
    (experiment / ".audio-0-0-partial" / "config.json").write_text("{")
    (experiment / "half").mkdir()
    report(experiment)
    assert text_table(summarise(experiment)) == before


def test_two_settings_of_one_model_are_two_rows(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1)})
    write_experiment(
        tmp_path, {"audio": (2.0, 1)}, train={"learning_rate": 0.1, "network": {}}, hash8="ffff0000"
    )
    assert sorted(row.name for row in summarise(tmp_path).rows) == [
        "audio (learning_rate 0.001)",
        "audio (learning_rate 0.1)",
    ]


def test_systems_that_differ_in_the_content_of_their_features_are_rows_of_their_own(tmp_path):
    for number, (rate, content) in enumerate([(0.001, "aa"), (0.002, "aa"), (0.001, "bb")]):
        audio = {"encoder": "x", "tokens": 32, "content": content}
        settings = {
            "features": {"audio": audio, "text": None},
            "train": {"learning_rate": rate, "network": {}},
        }
        write_experiment(tmp_path, {"audio": (2.0, 1)}, hash8=f"{number:08d}", **settings)
    assert sorted(row.name for row in summarise(tmp_path).rows) == [
        "audio (content aa, learning_rate 0.001)",
        "audio (content aa, learning_rate 0.002)",
        "audio (content bb, learning_rate 0.001)",
    ]


@pytest.mark.parametrize(
    ("model", "fold", "settings", "words"),
    [
        ("linear", 1, {}, "no fold in common"),
        ("audio", 0, {"hash8": "ffff0000"}, "same model, fold.* the same settings.*delete one"),
        ("linear", 0, {"split": {"name": "k5", "hash": "other"}}, "different splits"),
        ("linear", 0, {"classes": CLASSES[::-1]}, "different classes"),
        ("linear", 0, {"rows": 17}, "test rows are not those"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused(tmp_path, model, fold, settings, words):
    write_run(tmp_path, "audio", 0, 0)
    write_run(tmp_path, model, fold, 0, **settings)
    with pytest.raises(SerError, match=words):
        summarise(tmp_path)


def test_a_class_without_a_test_row_keeps_all_names_in_place(tmp_path):
    path = write_run(tmp_path, "linear", 0, 0) / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if ",test,00,joy," not in line))
    summary = summarise(tmp_path)
    assert np.isnan(summary.best.recalls[1].mean)
    assert not np.isnan(summary.best.recalls[2].mean)
    assert summary.best.confusion[1].sum() == 0
    assert "no utterance of joy: UA averages the other classes" in summary.cautions
    assert report(tmp_path).exists()


def test_one_speaker_gives_scores_without_interval(tmp_path):
    write_run(tmp_path, "audio", 0, 0)
    write_run(tmp_path, "linear", 0, 0)
    summary = summarise(tmp_path)
    assert summary.best.scores["UA"].low is None
    assert any("neither intervals nor p values can be known" in line for line in summary.cautions)
    assert "whether that is chance cannot be known: one speaker only" in text_table(summary)
    assert "[cannot be known]" in text_table(summary)
    assert report(tmp_path).exists()


def test_unknown_speakers_are_said_and_allow_no_claim(tmp_path):
    write_experiment(
        tmp_path, {"svm": (6.0, 1), "linear": (0.1, 1), "audio": (6.0, 3)}, speaker=False
    )
    summary = summarise(tmp_path)
    assert (summary.by, summary.clusters) == ("utterance", 72)
    text = text_table(summary)
    assert "clustered by utterance: no speakers known" in text
    assert "95 % interval over utterances" in text
    assert "whether that is chance cannot be known: the speakers are not known" in text
    assert "beats" not in text


def test_utterances_without_a_speaker_are_one_cluster_beside_those_of_the_speakers(tmp_path):
    systems = {"linear": (0.1, 1), "audio": (6.0, 3)}
    for folder, without in {"all": True, "one": 1, "most": 17}.items():
        write_experiment(tmp_path / folder, systems, folds=7, speaker=without)
    every, one, most = (summarise(tmp_path / folder) for folder in ("all", "one", "most"))
    assert (every.by, every.clusters, one.by, one.clusters) == ("speaker", 7, "speaker", 8)
    assert "7 of 126 utterances have no speaker: they may be one person's" in text_table(one)
    assert not any("no speaker" in line for line in every.cautions)
    assert one.best.scores["UA"].mean == every.best.scores["UA"].mean
    assert "audio beats the best baseline, linear," in text_table(one)
    # seven known speakers with an utterance each do not make the 119 others independent
    assert most.best.scores["UA"].low is None
    assert "cannot be known: 8 speakers who count as much as 1." in text_table(most)


def test_validation_rows_can_be_scored_instead(tmp_path):
    write_experiment(tmp_path, {"linear": (1.0, 1)})
    assert summarise(tmp_path, part="validation").best.scores["WA"].mean == 0
    with pytest.raises(SerError, match="choose one of: test, validation"):
        summarise(tmp_path, part="train")


def _swap(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) * 2 // 3].rpartition(",")[0], "another length"),
        (lambda text: _swap(text, "p_joy", "p_sad"), "class order"),
        (lambda text: _swap(text, "p_anger,p_joy", "p_joy,p_anger"), "class order"),
        (lambda text: _swap(text, "speaker", "who"), "lacks the column speaker"),
        (lambda text: re.sub(r"test,00,\w+,", "test,00,rage,", text), "unknown class"),
        (lambda text: re.sub(r",[\d.e-]+\r?\n", ",oops\n", text), "no number"),
        (lambda text: re.sub(r"(joy|anger),[\d.e-]+", r"\1,nan", text), "distribution"),
        (lambda text: re.sub(r"emodb/0x\d+", "emodb/0x1", text), "two rows of utterance"),
        (lambda text: text.splitlines()[0], "no test rows"),
        (lambda text: "", "lacks the column"),
    ],
)
def test_damaged_predictions_are_named(tmp_path, damage, words):
    path = write_run(tmp_path, "linear", 0, 0) / "predictions.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(SerError, match=words) as caught:
        summarise(tmp_path)
    assert str(path) in str(caught.value)
    assert "delete the folder" in str(caught.value)


def test_binary_or_absent_predictions_are_named(tmp_path):
    path = write_run(tmp_path, "linear", 0, 0) / "predictions.csv"
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(SerError, match=re.escape(str(path))):
        summarise(tmp_path)
    path.unlink()
    with pytest.raises(SerError, match="missing although"):
        summarise(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"model": "audio"}', "[]"])
def test_a_damaged_config_is_named(tmp_path, text):
    path = write_run(tmp_path, "linear", 0, 0) / "config.json"
    path.write_text(text)
    with pytest.raises(SerError, match=re.escape(str(path))):
        summarise(tmp_path)


def test_an_empty_or_absent_experiment_says_what_to_give(tmp_path):
    with pytest.raises(SerError, match="no complete run"):
        summarise(tmp_path)
    write_run(tmp_path / "a-to-b", "linear", 0, 0)
    with pytest.raises(SerError, match=r"give one of its folders that hold runs: a-to-b$"):
        summarise(tmp_path)
    with pytest.raises(SerError, match="no such folder"):
        summarise(tmp_path / "nowhere")


def test_predictions_that_were_changed_after_the_training_are_told(tmp_path):
    folder = write_run(tmp_path, "linear", 0, 0)
    file, config = folder / "predictions.csv", folder / "config.json"
    record = json.loads(config.read_text("utf-8"))
    record["predictions"] = hashlib.sha256(file.read_bytes()).hexdigest()
    config.write_text(json.dumps(record), "utf-8")
    assert not [line for line in summarise(tmp_path).cautions if "changed" in line]
    rows = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(rows[:-1]), "utf-8")
    told = "predictions were changed after the training in 1 run, such as linear-0-0-0123abcd/"
    assert [line for line in summarise(tmp_path).cautions if line.startswith(told)]
    assert [line for line in summarise_all([tmp_path]).cautions if line.startswith(told)]
    # the error names a run whose rows differ from the first one's, which is the changed one here
    write_run(tmp_path, "svm", 0, 0)
    with pytest.raises(SerError, match=f"{told}.*delete the folder and rerun the .*svm"):
        summarise(tmp_path)
