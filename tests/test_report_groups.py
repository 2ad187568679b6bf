"""Scores by sex and age: rows, differences, and no intervals for few speakers."""

import csv
import io

import numpy as np
import pytest

from made_runs import write_experiment
from multimodal_ser.corpora.utterance import Utterance, write_manifest
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation import metrics, statistics
from multimodal_ser.report import csv_tables, latex_table, report, summarise, text_table
from multimodal_ser.report.align import align
from multimodal_ser.runs.folder import read_runs

FOLDS, ROWS = 22, 18


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    models = {"audio": (2.0, 2), "linear": (1.0, 1)}
    return write_experiment(tmp_path_factory.mktemp("groups"), models, folds=FOLDS)


def write_people(path, of_speaker):
    """A manifest of the made-up runs' test rows; `of_speaker` gives a speaker's sex and age."""
    rows = [
        Utterance(f"emodb/{fold}x{n}", "emodb", "W", extra=of_speaker(fold))
        for fold in range(FOLDS)
        for n in range(ROWS)
    ]
    write_manifest(rows, path)
    return path


@pytest.fixture
def manifest(tmp_path):
    return write_people(
        tmp_path / "people.jsonl",
        lambda fold: {"sex": "female" if fold % 2 else "male", "age": 25 if fold < 20 else 64},
    )


def test_a_group_s_score_is_that_of_its_rows(experiment, manifest):
    summary = summarise(experiment, manifests=[manifest])
    found = {(one.name, one.system): one for one in summary.groups}
    aligned = align(read_runs(experiment))
    system = next(one for one in aligned.systems if one.name == "audio")
    female = np.array([int(fold[-2:]) % 2 == 1 for fold, _ in aligned.sample.keys])
    said = system.probabilities.argmax(-1)
    expected = [
        metrics.ua(metrics.confusion(aligned.sample.truth[female], one[female], 3)) for one in said
    ]
    group = found["female", "audio"]
    assert group.scores["UA"].values == pytest.approx([float(one) for one in expected])
    assert (group.utterances, group.clusters) == (FOLDS // 2 * ROWS, FOLDS // 2)
    sides = [
        np.stack(
            [
                metrics.grouped_confusion(
                    aligned.sample.truth[rows],
                    one[rows],
                    np.unique(aligned.sample.groups[rows], return_inverse=True)[1],
                    classes=3,
                    groups_total=FOLDS // 2,
                )
                for one in said
            ],
            axis=1,
        )
        for rows in (female, ~female)
    ]
    expected = statistics.compare_apart(*sides, metrics.ua)
    assert (group.difference.mean, group.p) == pytest.approx((expected.difference, expected.p))
    assert found["male", "audio"].difference is None  # the same difference, turned round


def test_too_few_speakers_are_said_and_have_no_interval(experiment, manifest):
    summary = summarise(experiment, manifests=[manifest])
    old = next(one for one in summary.groups if one.name == "60 and over")
    assert old.note == "cannot be known from 2 speakers (at least 3)"
    assert (old.difference, old.p, old.scores["UA"].low) == (None, None, None)
    for text in (text_table(summary), latex_table(summary), csv_tables(summary)["groups.csv"]):
        assert "cannot be known from 2 speakers" in text
    young = next(one for one in summary.groups if one.name == "under 30")
    assert young.note == "cannot be known from 2 other speakers (at least 3)"
    assert young.scores["UA"].low is not None


def test_groups_of_other_classes_are_not_compared(experiment, tmp_path):
    sample = align(read_runs(experiment)).sample
    joy = {key for (_, key), truth in zip(sample.keys, sample.truth, strict=True) if truth == 1}
    rows = [
        Utterance(key, "emodb", "W", extra={"sex": "F" if key in joy or place % 2 else "male"})
        for place, (_, key) in enumerate(sample.keys)
    ]
    write_manifest(rows, tmp_path / "people.jsonl")
    groups = summarise(experiment, manifests=[tmp_path / "people.jsonl"]).groups
    assert {one.name for one in groups} == {"female", "male"}
    assert {one.note for one in groups} == {"cannot be compared: only one side has joy"}
    assert all(one.difference is None and one.scores["UA"].mean > 0 for one in groups)


def test_groups_stand_in_page_and_csv(experiment, manifest, tmp_path):
    page = report(experiment, tmp_path / "out", manifests=[manifest])
    html = page.read_text(encoding="utf-8")
    assert "sex: female" in html
    assert "age: under 30" in html
    with (page.parent / "groups.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"audio", "linear"}
    assert "sex: female" in text_table(summarise(experiment, manifests=[manifest]))


def test_nothing_of_an_earlier_report_stays(experiment, manifest, tmp_path):
    report(experiment, tmp_path, manifests=[manifest])
    assert (tmp_path / "groups.csv").is_file()
    (tmp_path / "notes.txt").write_text("mine")
    report(experiment, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert "groups.csv" not in names
    assert {"table.csv", "confusion.png", "notes.txt"} <= names


def test_unknown_people_are_a_group_of_their_own(experiment, tmp_path):
    path = write_people(tmp_path / "some.jsonl", lambda fold: {"sex": "female"} if fold < 6 else {})
    groups = summarise(experiment, manifests=[path]).groups
    assert {(one.by, one.name) for one in groups} == {("sex", "female"), ("sex", "unknown")}


def test_tables_write_sex_and_age_in_their_own_ways(experiment, manifest, tmp_path):
    def written(fold):
        sex = ("F", "woman", "Female") if fold % 2 else ("m", "Man", "male")
        return {"Gender": sex[fold % 3], "AGE": ("25", "24,5")[fold % 2] if fold < 20 else 64.0}

    other = write_people(tmp_path / "written.jsonl", written)
    assert (
        summarise(experiment, manifests=[other]).groups
        == summarise(experiment, manifests=[manifest]).groups
    )

    def odd(fold):
        return {"gender": "nan", "age": ("twenties", "-1", "NA", 250)[min(fold, 3)]}

    groups = summarise(experiment, manifests=[write_people(tmp_path / "o.jsonl", odd)]).groups
    assert {(one.by, one.name) for one in groups} == {("age", "twenties"), ("age", "unknown")}


def test_a_group_of_all_has_no_others(experiment, tmp_path):
    path = write_people(tmp_path / "all.jsonl", lambda fold: {"sex": "f"})
    groups = summarise(experiment, manifests=[path]).groups
    assert {one.name for one in groups} == {"female"}
    assert {one.note for one in groups} == {"cannot be known from 0 other speakers (at least 3)"}


def test_manifests_that_do_not_fit_are_refused(experiment, tmp_path):
    write_manifest([Utterance("ravdess/1", "ravdess", "01")], tmp_path / "other.jsonl")
    with pytest.raises(SerError, match="none of the experiment's test utterances"):
        summarise(experiment, manifests=[tmp_path / "other.jsonl"])
    silent = write_people(tmp_path / "silent.jsonl", lambda fold: {})
    with pytest.raises(SerError, match="neither sex nor age"):
        summarise(experiment, manifests=[silent])


def test_differences_are_corrected_over_the_groups(experiment, tmp_path):
    ages = (25, 35, 50)
    path = write_people(tmp_path / "ages.jsonl", lambda fold: {"age": ages[fold % 2]})
    two = summarise(experiment, manifests=[path]).groups
    assert sum(one.p is not None for one in two) == 2  # one a system
    rows = list(
        csv.DictReader(
            io.StringIO(csv_tables(summarise(experiment, manifests=[path]))["groups.csv"])
        )
    )
    assert rows[0]["group"] == "under 30"
    assert rows[1]["p_holm"] == ""


def test_groups_are_not_compared_with_one_seed_or_one_speaker(tmp_path, manifest):
    write_experiment(tmp_path / "made", {"audio": (2.0, 1), "linear": (1.0, 1)}, folds=FOLDS)
    groups = summarise(tmp_path / "made", manifests=[manifest]).groups
    sexes = {one.system: one for one in groups if one.by == "sex" and one.name == "female"}
    assert sexes["audio"].p is None
    assert sexes["audio"].note == "cannot be known from one seed of a network"
    assert sexes["linear"].p is not None


def test_groups_of_unknown_speakers_are_not_compared(tmp_path, manifest):
    models = {"audio": (2.0, 2), "linear": (1.0, 1)}
    write_experiment(tmp_path / "made", models, folds=FOLDS, speaker=False)
    groups = summarise(tmp_path / "made", manifests=[manifest]).groups
    assert {one.note for one in groups} == {"cannot be known: the speakers are not known"}
    assert all(one.p is None for one in groups)
