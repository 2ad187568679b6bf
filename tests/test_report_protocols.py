"""What a report says of each kind of experiment: names, comparisons, pictures, the original."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from made_runs import (
    SOURCE,
    write_adaptation,
    write_experiment,
    write_fewshot,
    write_run,
    write_systems,
)
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import statistics
from multimodal_ser.report import csv_tables, latex_table, report, summarise, text_table
from multimodal_ser.report.align import align
from multimodal_ser.report.published import MARK, original
from multimodal_ser.runs.folder import read_runs

FOUR = ("anger", "happiness", "neutral", "sadness")
METHODS = {"none": 1.0, "standardize": 1.8, "dann": 2.8, "mmd": 0.9}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    return write_adaptation(tmp_path_factory.mktemp("adapted"), METHODS, seeds=3, folds=12)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_fewshot(tmp_path_factory.mktemp("few"), percentages=(10, 100), draws=2)


def test_adaptations_are_named_by_their_method(adapted):
    summary = summarise(adapted)
    assert {row.name for row in summary.rows} == {*METHODS, "linear"}
    assert (summary.protocol, summary.source, summary.corpora) == (
        "adaptation",
        ("cremad",),
        ("emodb",),
    )
    assert "cremad → emodb" in text_table(summary)
    assert r"cremad $\rightarrow$ emodb" in latex_table(summary)


def test_each_method_is_measured_against_none_and_standardize(adapted):
    summary = summarise(adapted)
    pairs = {family: set() for family in summary.families}
    for one in summary.versus:
        pairs[one.family].add((one.name, one.against))
    assert pairs["each method against none"] == {
        (name, "none") for name in ("standardize", "dann", "mmd")
    }
    assert pairs["each method against standardize"] == {
        (name, "standardize") for name in ("dann", "mmd")
    }
    text = text_table(summary)
    assert "dann beats standardize by" in text
    assert "mmd does not beat standardize: it is" in text
    assert "each method against standardize: 1 of 2 are better by more than chance: dann." in text


def test_comparisons_are_paired_corrected_in_their_family_and_mcnemar_stands_beside(adapted):
    summary = summarise(adapted)
    aligned = align(read_runs(adapted))
    systems = {one.name: one for one in aligned.systems}

    def right(name):
        return systems[name].probabilities.mean(0).argmax(-1) == aligned.sample.truth

    family = [one for one in summary.versus if one.family.endswith("standardize")]
    plain = [statistics.mcnemar(right(one.name), right("standardize")).p for one in family]
    assert [one.mcnemar for one in family] == pytest.approx(statistics.holm(plain))
    rows = list(csv.DictReader(io.StringIO(csv_tables(summary)["comparisons.csv"])))
    assert len(rows) == len(summary.versus)
    assert float(rows[0]["p_mcnemar_holm"]) == pytest.approx(summary.versus[0].mcnemar, abs=1e-6)


def test_two_weights_of_one_method_are_two_rows(tmp_path):
    systems = [
        ("audio", 2.0, 1, 1, {"adaptation": {"method": "dann", "weight": weight}})
        for weight in (0.1, 0.5)
    ]
    write_systems(tmp_path, "adaptation", systems)
    names = {row.name for row in summarise(tmp_path).rows}
    assert names == {"dann (weight 0.1)", "dann (weight 0.5)"}


def test_draws_are_repetitions_like_seeds_and_said_apart(few):
    summary = summarise(few)
    rows = {row.name: row for row in summary.rows}
    assert set(rows) == {
        f"{kind}, {share} %"
        for kind in ("fine-tuned (all)", "from scratch", "linear")
        for share in (10, 100)
    }
    tuned = rows["fine-tuned (all), 10 %"]
    assert (tuned.seeds, tuned.draws, len(tuned.scores["UA"].values)) == ((0, 1), (0, 1), 4)
    text = text_table(summary)
    assert "2 draws × 2 seeds" in text
    assert "2 draws × 1 seed" in text
    assert "± is over draws of the few and seeds" in text
    assert text.index("linear, 10 %") < text.index("fine-tuned (all), 100 %")
    assert summary.missing == ()


def test_tuning_is_measured_against_scratch_and_linear_with_the_same_labels(few):
    pairs = {(one.name, one.against) for one in summarise(few).versus}
    assert pairs == {
        (f"fine-tuned (all), {share} %", f"{bar}, {share} %")
        for share in (10, 100)
        for bar in ("from scratch", "linear")
    }


def test_a_missing_draw_is_left_out_and_said(tmp_path):
    write_fewshot(tmp_path, percentages=(10,), draws=2, folds=2)
    (tmp_path / "audio-1-0-00000001" / "config.json").unlink()
    summary = summarise(tmp_path)
    assert any("seed 0, draw 1, lacks fold speaker=01" in line for line in summary.missing)
    assert "fine-tuned (all), 10 % counts 3 of 4 seeds and draws" in summary.missing


def test_source_models_are_no_result(tmp_path):
    parts = ("all", "head", "scratch", "none")
    systems = [("audio", 2.0, 1, 1, {"parts": part}) for part in parts]
    write_systems(tmp_path, "finetune", [*systems, ("linear", 1.0, 1, 1, {"parts": "scratch"})])
    write_run(tmp_path, "audio", 0, 0, protocol="source", split={"name": "k5", "hash": "other"})
    names = {row.name for row in summarise(tmp_path).rows}
    assert names == {
        *("fine-tuned (all)", "fine-tuned (head)", "from scratch", "not fine-tuned", "linear")
    }


def test_tokens_and_pooled_vectors_are_told_apart_and_baselines_stand_once(tmp_path):
    for tokens in (32, 1):
        features = {"audio": {"encoder": "x", "tokens": tokens}, "text": None}
        write_experiment(
            tmp_path,
            {"cross_attention": (2.0, 1), "audio": (1.5, 1)},
            protocol="ablation",
            features=features,
            hash8=f"{tokens:08d}",
        )
    write_experiment(tmp_path, {"linear": (1.0, 1)}, protocol="ablation")
    summary = summarise(tmp_path)
    assert {row.name for row in summary.rows} == {
        *("cross_attention, tokens", "cross_attention, pooled"),
        *("audio, tokens", "audio, pooled", "linear"),
    }


def test_an_ablation_has_a_second_table_over_the_validation_rows(tmp_path):
    write_experiment(
        tmp_path,
        {"cross_attention": (2.6, 1), "audio": (1.0, 1), "linear": (1.2, 1)},
        protocol="ablation",
    )
    summary = summarise(tmp_path)
    assert summary.validation is not None
    assert summary.validation.best.scores["WA"].mean == 0
    assert [one.against for one in summary.versus if one.family.startswith("cross")] == [
        row.name for row in summary.rows if row.name != "cross_attention"
    ]
    for text in (text_table(summary), latex_table(summary)):
        assert "1 validation utterance" in text
        assert "their scores are too high" in text
    parts = {row["part"] for row in csv.DictReader(io.StringIO(csv_tables(summary)["table.csv"]))}
    assert parts == {"test", "validation"}
    html = report(tmp_path).read_text(encoding="utf-8")
    assert "The same on the validation rows" in html


def test_combined_training_is_scored_by_corpus_too(tmp_path):
    for place, corpus in enumerate(("emodb", "cremad")):
        write_experiment(
            tmp_path / corpus, {"concat": (2.0 + place, 1), "linear": (1.0, 1)}, folds=6
        )
    merged = tmp_path / "merged"
    for folder in sorted((tmp_path / "emodb").iterdir()):
        lines = (folder / "predictions.csv").read_text().splitlines()
        other = (tmp_path / "cremad" / folder.name / "predictions.csv").read_text().splitlines()
        lines += [line.replace("emodb/", "cremad/") for line in other[1:]]
        made = merged / folder.name
        made.mkdir(parents=True)
        config = json.loads((folder / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(config | {"protocol": "combined"}))
        (made / "predictions.csv").write_text("\n".join(lines))
    summary = summarise(merged)
    assert summary.corpora == ("cremad", "emodb")
    found = {(one.name, one.system): one for one in summary.groups}
    assert set(found) == {(c, m) for c in ("cremad", "emodb") for m in ("concat", "linear")}
    alone = summarise(tmp_path / "emodb").best.scores["UA"]
    assert found["emodb", "concat"].scores["UA"] == alone
    assert all(one.difference is None for one in summary.groups)


def test_pictures_of_transfer_stand_in_page_and_files(adapted, few, tmp_path):
    page = report(adapted, tmp_path / "adapted").read_text(encoding="utf-8")
    assert 'id="adaptation"' in page
    assert 'id="curve"' not in page
    assert (tmp_path / "adapted" / "adaptation.png").stat().st_size > 5000
    page = report(few, tmp_path / "few").read_text(encoding="utf-8")
    assert 'id="curve"' in page
    assert (tmp_path / "few" / "learning_curve.png").stat().st_size > 5000
    assert "linear, 100 %" in page[page.index('id="curve"') :]


def test_published_numbers_stand_beside_ours_where_the_task_is_the_same(tmp_path):
    labels = {"name": "iemocap4", "classes": list(FOUR)}
    write_fewshot(tmp_path, percentages=(10, 20), draws=1, folds=2, classes=FOUR, labels=labels)
    for folder in tmp_path.iterdir():  # its test rows are CREMA-D's, its source IEMOCAP
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["source"] = SOURCE | {"corpora": ["iemocap"]}
        path.write_text(json.dumps(config))
        rows = folder / "predictions.csv"
        rows.write_text(rows.read_text().replace("emodb/", "cremad/"))
    summary = summarise(tmp_path)
    rows = {
        row["published"]: row
        for row in csv.DictReader(io.StringIO(csv_tables(summary)["published.csv"]))
    }
    ours = next(row for row in summary.rows if row.name == "fine-tuned (all), 20 %")
    line = rows["20 % (782 rows)"]
    assert float(line["published_UA"]) == pytest.approx(0.9079)
    assert float(line["ours_UA"]) == pytest.approx(ours.scores["UA"].mean, abs=1e-6)
    assert rows["50 % (1,959 rows)"]["ours"] == ""
    html = report(tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    for text in (html, text_table(summary), latex_table(summary)):
        assert MARK in text
        assert "90.79" in text
        assert "every actor and sentence stands on both sides" in text
    # pdflatex stops at letters such as λ
    told = tuple(line for table in original().tables for line in table.doubts)
    assert latex_table(replace(summary, cautions=told)).isascii()


def test_published_numbers_never_stand_beside_another_task(few, adapted, tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1), "linear": (1.0, 1)}, protocol="ablation")
    for folder in (few, adapted, tmp_path):
        assert csv_tables(summarise(folder))["published.csv"] == ""
        assert MARK not in text_table(summarise(folder))


def test_published_scores_are_shares_and_every_table_has_doubts():
    scores = [
        value for table in original().tables for row in table.rows for value in row.scores.values()
    ]
    assert min(scores) > 0.4
    assert max(scores) < 0.95
    assert len(original().tables) == 4
    assert all(table.doubts for table in original().tables)


def test_leaks_of_the_source_are_leaks_of_the_result(tmp_path):
    leak = "3 speakers stand on both sides"
    split = {**SOURCE["split"], "leaks": [leak]}
    for fold in range(2):
        write_run(
            tmp_path,
            "audio",
            fold,
            0,
            protocol="finetune",
            source=SOURCE | {"split": split},
            train={"parts": "all"},
            marks=[f"source cremad: {leak}", "made up"],
        )
    notes = summarise(tmp_path).notes
    assert [(note.text, note.leak) for note in notes] == [
        (f"source cremad: {leak}", True),
        ("made up", False),
    ]


def test_two_kinds_of_experiment_in_one_folder_are_refused(tmp_path):
    write_adaptation(tmp_path, {"none": 1.0}, folds=2)
    write_run(tmp_path, "audio", 0, 0, protocol="fewshot", train={"parts": "all"})
    with pytest.raises(SerError, match="one report needs one kind"):
        summarise(tmp_path)


def test_runs_without_a_protocol_are_in_domain(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1)})
    summary = summarise(tmp_path)
    assert (summary.protocol, summary.source, summary.command) == ("in-domain", (), None)
    (tmp_path / "experiment.json").write_text('{"command": "ser train …"}')
    assert summarise(tmp_path).command == "ser train …"
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(SerError, match=r"experiment\.json"):
        summarise(tmp_path)


def test_all_systems_are_scored_on_the_same_rows(few):
    aligned = align(read_runs(few))
    shapes = {one.probabilities.shape[1:] for one in aligned.systems}
    assert shapes == {(len(aligned.sample.truth), 3)}
    assert np.allclose([one.probabilities.sum(-1).min() for one in aligned.systems], 1)
