"""When a report may say that one system beats another, and what it says where that is not known."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from made_runs import CLASSES, write_experiment, write_fewshot, write_run
from multimodal_ser.evaluation import statistics
from multimodal_ser.report import report, summarise, text_table
from multimodal_ser.report.scores import effective_clusters

FAR = {"audio": (6.0, 3), "linear": (0.2, 1)}  # so far apart that any test that could would say so


def formats(folder):
    """Everything that a report writes in words or numbers."""
    out = report(folder).parent
    found = {}
    for name in ("table.txt", "table.tex", "table.csv", "comparisons.csv", "report.html"):
        found[name] = (out / name).read_text(encoding="utf-8")
    return found


def keep_rows(folder, keep):
    """Rewrites a run's predictions without the test rows that `keep` says no to."""
    path = folder / "predictions.csv"
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if ",test," not in line or keep(line)]
    path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("speakers", [1, 2])
def test_too_few_speakers_have_words_instead_of_numbers_in_every_format(tmp_path, speakers):
    write_experiment(tmp_path, FAR, folds=speakers)
    words = f"{('one speaker', 'two speakers')[speakers - 1]} only"
    for name, text in formats(tmp_path).items():
        assert "cannot be known" in text, name
        assert "beats" not in text, name
        assert not re.search(r"p [=<] ?\d|p\N{NO-BREAK SPACE}[=<]", text), name
        if name != "table.csv":
            assert words in text, name
    versus = summarise(tmp_path).versus[0]
    assert (versus.low, versus.high, versus.p, versus.mcnemar) == (None,) * 4
    with (tmp_path / "report" / "comparisons.csv").open(encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert (line["p_holm"], line["p_mcnemar_holm"]) == ("cannot be known", "cannot be known")
    assert line["why_unknown"] == words
    with (tmp_path / "report" / "table.csv").open(encoding="utf-8") as file:
        assert {line["UA_low"] for line in csv.DictReader(file)} == {"cannot be known"}


def test_a_network_of_one_seed_is_not_said_to_beat_anything(tmp_path):
    write_experiment(tmp_path, {"audio": (6.0, 1), "linear": (0.2, 1)}, folds=12)
    text = text_table(summarise(tmp_path))
    assert "beats" not in text
    assert "audio was trained with one seed; train with --seeds 3 or more" in text
    assert "p =" not in text and "p <" not in text  # noqa: PT018
    (folder,) = {path.parent for path in tmp_path.glob("audio-0-0-*/config.json")}
    assert folder.is_dir()


def test_baselines_draw_nothing_and_may_beat_each_other_with_one_seed(tmp_path):
    write_experiment(tmp_path, {"audio": (6.0, 3), "linear": (0.2, 1), "svm": (0.1, 1)}, folds=12)
    text = text_table(summarise(tmp_path))
    assert re.search(r"audio beats the best baseline, (linear|svm), by .* \(p [=<] 0\.\d+;", text)


def test_five_speakers_cannot_show_a_difference_and_the_report_says_so(tmp_path):
    write_experiment(tmp_path, FAR, folds=5)
    summary = summarise(tmp_path)
    assert summary.versus[0].p == pytest.approx(statistics.smallest_p(5))
    assert not summary.versus[0].wins
    assert any("cannot go below p = 0.062" in line for line in summary.cautions)
    assert not any("cannot go below" in line for line in summarise_of(tmp_path / "six", 6).cautions)


def summarise_of(folder, speakers):
    write_experiment(folder, FAR, folds=speakers)
    return summarise(folder)


def test_a_win_of_one_lucky_seed_may_be_chance(tmp_path):
    for fold in range(12):
        write_run(tmp_path, "linear", fold, 0, skill=1.0)
        for seed, skill in enumerate((6.0, 1.0, 1.0)):
            write_run(tmp_path, "audio", fold, seed, skill=skill)
    summary = summarise(tmp_path)
    (versus,) = summary.versus
    assert versus.difference > 0.05
    assert versus.low < 0 < versus.high
    assert "may be chance" in text_table(summary)


def test_effective_speakers_not_names_are_counted(tmp_path):
    equal = write_experiment(tmp_path / "equal", {"linear": (1.0, 1)}, folds=12)
    assert summarise(equal).effective > 9
    for fold in range(12):
        write_run(tmp_path / "few", "linear", fold, 0, rows=120 if fold < 3 else 6)
    summary = summarise(tmp_path / "few")
    assert summary.clusters == 12
    assert summary.effective < 6
    words = f"the 12 speakers count as much as {summary.effective:.1f} of equal size"
    assert any(words in line for line in summary.cautions)
    assert "effective_clusters" in (report(tmp_path / "few").parent / "table.csv").read_text()


def test_one_dominant_speaker_counts_as_one(tmp_path):
    for fold, rows in enumerate((400, 4, 4, 4)):
        write_run(tmp_path, "linear", fold, 0, rows=rows)
        write_run(tmp_path, "svm", fold, 0, rows=rows)
    summary = summarise(tmp_path)
    assert summary.effective < 1.5
    assert summary.best.scores["WA"].low is None
    assert any("neither intervals nor p values" in line for line in summary.cautions)


def test_effective_clusters_are_clusters_where_nothing_can_be_known():
    assert effective_clusters(np.ones((2, 1, 3, 3))) == 2


def test_a_class_of_one_utterance_and_one_of_one_speaker_draw_cautions(tmp_path):
    seen = []

    def once(line):
        seen.append(line) if ",joy," in line else None
        return ",joy," not in line or line.startswith(seen[0].split(",")[0])

    for fold in range(4):
        folder = write_run(tmp_path, "linear", fold, 0)
        keep_rows(
            folder, lambda line, fold=fold: once(line) and (fold == 1 or ",anger," not in line)
        )
    cautions = summarise(tmp_path).cautions
    assert any(
        line.startswith("a single tested utterance of joy, which weighs") for line in cautions
    )
    assert any(line.startswith("only one speaker utters anger") for line in cautions)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_shot_draws_do_not_replace_seeds(tmp_path, seeds):
    few = write_fewshot(tmp_path, percentages=(10,), draws=3, seeds=seeds, folds=8)
    tuned = [one for one in summarise(few).versus if one.name.startswith("fine-tuned")]
    assert tuned
    assert all((one.p is None) == (seeds == 1) for one in tuned)
    assert ("was trained with one seed" in text_table(summarise(few))) == (seeds == 1)


def test_the_method_and_its_page_are_named(tmp_path):
    write_experiment(tmp_path, FAR, folds=8)
    for name, text in formats(tmp_path).items():
        if not name.endswith(".csv"):
            assert "cluster jackknife" in text, name
            assert "sign flip" in text, name
    page = Path(__file__).parents[1] / "docs" / "statistics.md"
    for source in ("Bell", "Satterthwaite", "Welch", "McNemar", "Holm", "Carter"):
        assert source in page.read_text(encoding="utf-8")
    assert len(CLASSES) == 3
