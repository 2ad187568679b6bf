"""A report of made-up runs: its numbers, its warnings in every format, its self-sufficiency."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from made_runs import CLASSES, write_experiment, write_systems
from multimodal_ser.evaluation import metrics, statistics
from multimodal_ser.report import (
    csv_tables,
    latex_table,
    report,
    summarise,
    summarise_all,
    text_table,
)

LEAK = "sentences stand in training & test (12 of 12)"
MARK = "emodb: encoder whisper_x: unknown whether it saw this corpus <source>"
FILES = (
    *("report.html", "table.csv", "table.tex", "table.txt", "comparisons.csv"),
    *("confusion.png", "reliability.png"),
)


@pytest.fixture
def experiment(tmp_path):
    models = {"cross_attention": (2.6, 3), "concat": (1.0, 3), "linear": (1.2, 1), "svm": (0.8, 1)}
    return write_experiment(
        tmp_path / "made",
        models,
        folds=8,
        marks=[MARK],
        split={"name": "loso-speaker", "hash": "5eed", "folds": 8, "leaks": [LEAK]},
    )


def predictions(experiment, model, seed):
    rows = []
    for folder in sorted(experiment.glob(f"{model}-*-{seed}-*")):
        with (folder / "predictions.csv").open(encoding="utf-8") as file:
            rows += [row for row in csv.DictReader(file) if row["part"] == "test"]
    truth = [CLASSES.index(row["label"]) for row in rows]
    said = [int(np.argmax([float(row[f"p_{name}"]) for name in CLASSES])) for row in rows]
    return truth, said, [int(row["speaker"]) for row in rows]


def test_scores_are_over_all_folds_together_then_over_seeds(experiment):
    summary = summarise(experiment)
    row = next(row for row in summary.rows if row.name == "cross_attention")
    expected = [
        balanced_accuracy_score(*predictions(experiment, "cross_attention", seed)[:2])
        for seed in range(3)
    ]
    assert row.scores["UA"].values == pytest.approx(expected)
    assert row.scores["UA"].mean == pytest.approx(np.mean(expected))
    assert row.scores["UA"].sd == pytest.approx(np.std(expected, ddof=1))
    assert row.seeds == (0, 1, 2)
    assert row.parameters == 12345
    assert row.confusion.sum() == pytest.approx(summary.utterances) == 144
    assert (summary.clusters, summary.by, len(summary.folds)) == (8, "speaker", 8)
    assert [r.scores["UA"].mean for r in summary.rows] == sorted(
        (r.scores["UA"].mean for r in summary.rows), reverse=True
    )


def test_intervals_and_comparisons_are_those_of_statistics(experiment):
    summary = summarise(experiment)
    sums = {}
    for model, seeds in (("cross_attention", 3), ("linear", 1)):
        planes = []
        for seed in range(seeds):
            truth, said, who = predictions(experiment, model, seed)
            planes.append(metrics.grouped_confusion(truth, said, who, classes=3, groups_total=8))
        sums[model] = np.stack(planes, axis=1)
    row = summary.best
    interval = statistics.clustered_interval(sums["cross_attention"], metrics.ua)
    assert (row.scores["UA"].low, row.scores["UA"].high) == (interval.low, interval.high)
    comparison = statistics.compare(sums["cross_attention"], sums["linear"], metrics.ua)
    family = summary.families[0]
    versus = {one.name: one for one in summary.versus if one.family == family}
    assert set(versus) == {"cross_attention", "concat"}
    assert versus["cross_attention"].against == "linear"
    assert versus["cross_attention"].difference == pytest.approx(comparison.difference)
    assert versus["cross_attention"].p >= comparison.p


def test_one_plain_sentence_says_whether_a_network_beats_the_baseline(experiment):
    text = text_table(summarise(experiment))
    assert "cross_attention beats the best baseline, linear, by" in text
    assert "concat does not beat the best baseline, linear" in text


def test_a_missing_linear_probe_is_said(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1)})
    summary = summarise(tmp_path)
    assert summary.versus == ()
    assert any("linear probe is missing" in line for line in summary.cautions)
    for name in ("a", "b"):  # where two experiments have one, it is called "linear (a)"
        other = {"features": {"audio": {"encoder": name, "tokens": 32}, "text": None}}
        write_experiment(tmp_path / name, {"linear": (2.0, 1)}, hash8=8 * name, salt=name, **other)
    summary = summarise_all([tmp_path / "a", tmp_path / "b"])
    assert {row.model for row in summary.rows} == {"linear (a)", "linear (b)"}
    assert not any("linear probe is missing" in line for line in summary.cautions)


def relabelled(experiment):
    for path in experiment.glob("*/config.json"):
        config = json.loads(path.read_text())
        config["labels"]["hash"] = "c0ffee"
        path.write_text(json.dumps(config))


def test_experiments_that_learnt_from_other_labels_are_told_apart(tmp_path):
    places = [tmp_path / name for name in ("a", "b")]
    for place in places:
        sound = {"encoder": place.name, "tokens": 32}
        write_experiment(
            place, {"linear": (2.0, 1)}, hash8=8 * place.name, salt=place.name,
            features={"audio": sound, "text": None},
        )  # fmt: skip
    assert not any("learnt from other" in line for line in summarise_all(places).cautions)
    relabelled(places[1])
    said = "b learnt from other labels, speakers or utterances than a"
    assert said in summarise_all(places).cautions


def test_more_seeds_and_folds_of_one_system_are_no_other_system(tmp_path):
    places = [tmp_path / name for name in ("few", "many")]
    for place, seeds in zip(places, (2, 3), strict=True):
        write_experiment(place, {"audio": (2.0, seeds), "linear": (2.0, 1)})
    shutil.rmtree(places[1] / "linear-3-0-0123abcd")  # which only the other one has
    summary = summarise_all(places)
    assert {row.name: row.seeds for row in summary.rows} == {"audio": (0, 1, 2), "linear": (0,)}
    assert summary.missing == ()
    for place, seeds in (("p", 1), ("q", 2)):
        systems = [("audio", 2.0, seeds, 2, {"few": {"percent": 10}})]
        write_systems(tmp_path / place, "fewshot", systems)
    (row,) = summarise_all([tmp_path / "p", tmp_path / "q"]).rows
    assert (row.seeds, row.draws) == ((0, 1), (0, 1))


def test_one_run_with_other_predictions_is_no_single_run(tmp_path):
    for name, skill in (("old", 2.0), ("new", 0.5)):  # as of another version of the package
        write_experiment(tmp_path / name, {"audio": (skill, 2), "linear": (1.0, 1)})
    both = summarise_all([tmp_path / "old", tmp_path / "new"])
    alone = {name: summarise(tmp_path / name).rows for name in ("old", "new")}
    scores = {row.name: row.scores["UA"].mean for row in both.rows}
    assert scores.keys() == {"audio (old)", "audio (new)", "linear"}
    for name, rows in alone.items():
        (own,) = [row for row in rows if row.model == "audio"]
        assert scores[f"audio ({name})"] == own.scores["UA"].mean


def test_experiments_in_folders_of_one_name_are_told_apart(tmp_path):
    places = [tmp_path / name / "runs" for name in ("a", "b")]
    for place, name in zip(places, "ab", strict=True):
        write_experiment(place, {"linear": (2.0, 1)}, hash8=8 * name, salt=name)
    relabelled(places[1])
    summary = summarise_all(places)
    assert {row.name for row in summary.rows} == {"linear (a/runs)", "linear (b/runs)"}
    assert "b/runs learnt from other labels, speakers or utterances than a/runs" in summary.cautions


def test_leaks_and_marks_stand_in_every_format(experiment):
    page = report(experiment)
    out = page.parent
    assert out == experiment / "report"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    text = (out / "table.txt").read_text(encoding="utf-8")
    assert f"LEAK: {LEAK}" in text
    assert MARK in text
    latex = (out / "table.tex").read_text(encoding="utf-8")
    assert r"sentences stand in training \& test" in latex
    assert r"whisper\_x: unknown" in latex
    html = page.read_text(encoding="utf-8")
    assert "LEAK: sentences stand in training &amp; test" in html
    assert "unknown whether it saw this corpus &lt;source&gt;" in html
    assert html.index("</table>") < html.index("LEAK") < html.index("Models side by side")
    with (out / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(row["leaks"] == LEAK and row["marks"] == MARK for row in rows)


def test_seeds_and_sample_are_explained_separately(experiment):
    summary = summarise(experiment)
    words = "± is over seeds; [ ] is the 95 % interval over speakers"
    assert words in text_table(summary)
    assert r"$\pm$ is over seeds; {[} {]} is the 95 \% interval over speakers" in latex_table(
        summary
    )
    assert " ± –" in text_table(summary)


def test_csv_holds_the_summary_s_numbers(experiment):
    summary = summarise(experiment)
    rows = list(csv.DictReader(io.StringIO(csv_tables(summary)["table.csv"])))
    for row, cells in zip(summary.rows, rows, strict=True):
        assert cells["model"] == row.name
        assert float(cells["UA"]) == pytest.approx(row.scores["UA"].mean, abs=1e-6)
        assert float(cells["recall_joy_low"]) == pytest.approx(row.recalls[1].low, abs=1e-6)
    assert rows[-1]["UA_sd"] == ("" if len(summary.rows[-1].seeds) == 1 else rows[-1]["UA_sd"])


class Loads(HTMLParser):
    """Collects whatever a page would load, and its headings, header cells and pictures."""

    def __init__(self):
        super().__init__()
        self.loads, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            if name in attrs and not attrs[name].startswith("#"):
                self.loads.append((tag, attrs[name]))


def test_page_needs_nothing_outside_itself_and_is_accessible(experiment):
    html = report(experiment).read_text(encoding="utf-8")
    page = Loads()
    page.feed(html)
    assert page.loads == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "prefers-color-scheme: dark" in html
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(pictures) == 4
    assert all(one["role"] == "img" and len(one["aria-label"]) > 20 for one in pictures)
    best = summarise(experiment).best.scores["UA"]
    assert f"{100 * best.mean:.1f} % UA [{100 * best.low:.1f}, {100 * best.high:.1f}]" in html


def test_the_same_runs_give_the_same_bytes(experiment, tmp_path):
    first, second = (report(experiment, tmp_path / name).parent for name in ("one", "two"))
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_text_table_loads_neither_torch_nor_matplotlib():
    code = "import sys, multimodal_ser.report; print({'torch', 'matplotlib'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
