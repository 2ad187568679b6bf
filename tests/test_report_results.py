"""The results page: generated wholly, from numbers that outlive their runs."""

import json
from pathlib import Path

import pytest

from made_runs import write_adaptation, write_experiment, write_fewshot
from multimodal_ser.cli import main
from multimodal_ser.errors import SerError
from multimodal_ser.report import summarise, text_table
from multimodal_ser.report.results import (
    as_record,
    from_record,
    read_list,
    read_records,
    render,
    write_results,
)

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def runs(tmp_path):
    write_experiment(tmp_path / "runs" / "first", {"audio": (2.0, 2), "linear": (1.0, 1)})
    write_adaptation(tmp_path / "runs" / "second", {"none": 1.0, "dann": 3.0}, seeds=3, folds=8)
    (tmp_path / "runs" / "second" / "experiment.json").write_text(
        json.dumps({"protocol": "adaptation", "command": "ser experiment adaptation …"})
    )
    return tmp_path / "runs"


@pytest.fixture
def tables(tmp_path):
    found = {
        "title": "Results",
        "introduction": "As measured.",
        "tables": [
            {"title": "One", "experiment": "first", "commands": ["ser train …"], "note": "Note."},
            {"title": "Two", "experiment": "second"},
        ],
    }
    path = tmp_path / "tables.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_the_repository_s_page_is_what_its_numbers_give():
    page, records = read_list(DOCS / "tables.json"), read_records(DOCS / "results.json")
    assert set(records) == {table.experiment for table in page.tables}
    assert (DOCS / "results.md").read_text(encoding="utf-8") == render(page, records)


@pytest.mark.parametrize("kind", ["few", "ablation"])
def test_a_record_gives_the_summary_back(tmp_path, kind):
    if kind == "few":
        write_fewshot(tmp_path, percentages=(10, 100), draws=2, folds=3)
    else:
        write_experiment(tmp_path, {"audio": (2.0, 1), "linear": (1.0, 1)}, protocol="ablation")
    summary = summarise(tmp_path)
    record = json.loads(json.dumps(as_record(summary), allow_nan=False))
    again = from_record(record)
    assert text_table(again) == text_table(summary)
    assert as_record(again) == record


def test_a_record_of_another_version_is_refused(tmp_path):
    write_experiment(tmp_path, {"audio": (2.0, 1)})
    record = as_record(summarise(tmp_path))
    record["rows"][0].pop("recalls")
    with pytest.raises(SerError, match="does not fit this version"):
        from_record(record)


def test_the_page_has_titles_commands_tables_and_verdicts(runs, tables, tmp_path, capsys):
    out = tmp_path / "docs" / "results.md"
    code = main(["results", "--runs", str(runs), "--tables", str(tables), "--out", str(out)])
    assert code == 0
    assert str(out) in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    best = summarise(runs / "first").best.scores["UA"]
    assert text.startswith("# Results\n\nAs measured.\n\n## One\n\nNote.\n\n```\nser train …\n```")
    assert f"| **{100 * best.mean:.1f} ± {100 * best.sd:.1f}** [{100 * best.low:.1f}," in text
    assert "```\nser experiment adaptation …\n```" in text
    assert "dann beats none by" in text
    assert render(read_list(tables), read_records(out.with_suffix(".json"))) == text


def test_numbers_are_kept_without_their_runs(runs, tables, tmp_path):
    out = tmp_path / "results.md"
    write_results([runs], tables, out)
    before = out.read_text(encoding="utf-8")
    write_results([runs / "first"], tables, out)
    assert out.read_text(encoding="utf-8") == before
    write_results([], tables, out)
    assert out.read_text(encoding="utf-8") == before
    out.with_suffix(".json").unlink()
    with pytest.raises(SerError, match="'second', which has no runs"):
        write_results([runs / "first"], tables, out)


def test_two_experiments_of_one_name_are_refused_and_one_given_twice_is_not(tmp_path):
    for place in ("runs", "copy"):
        write_experiment(tmp_path / place / "first", {"audio": (2.0, 1)})
        (tmp_path / place / "first" / "experiment.json").write_text('{"protocol": "in-domain"}')
    out, runs = tmp_path / "results.md", tmp_path / "runs"
    with pytest.raises(SerError, match=r"several experiments are called first: .*copy.first"):
        write_results([runs, tmp_path / "copy"], None, out)
    assert not out.exists()
    write_results([runs, runs / ".." / "runs"], None, out)
    assert out.read_text(encoding="utf-8").count("## first") == 1


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"title": "x"}', '{"title": "x", "tables": [{"title": "y"}]}',
     '{"title": "x", "tables": [{"title": "y", "experiment": "z", "colour": "red"}]}'],
)  # fmt: skip
def test_a_damaged_list_is_named(tmp_path, text):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(SerError, match=r"list\.json: not a list of tables"):
        read_list(path)


def test_an_experiment_is_listed_once(tmp_path):
    path = tmp_path / "list.json"
    one = {"title": "y", "experiment": "z"}
    path.write_text(json.dumps({"title": "x", "tables": [one, one]}))
    with pytest.raises(SerError, match="lists z twice"):
        read_list(path)
