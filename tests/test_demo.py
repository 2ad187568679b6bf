"""The main job on the features that are shipped, with one seed, as `make demo` does."""

import pytest

from multimodal_ser.cli import main
from multimodal_ser.report import summarise


@pytest.mark.slow
def test_the_demo_reaches_what_the_readme_says(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    table = capsys.readouterr().out
    summary = summarise(tmp_path / "demo")
    ua = {row.model: row.scores["UA"].mean for row in summary.rows}
    assert (tmp_path / "demo" / "report" / "report.html").is_file()
    assert "may have seen it" in table
    assert (summary.utterances, len(summary.folds)) == (535, 10)
    assert ua["stacked"] > 0.90
    assert ua["linear"] > 0.89
