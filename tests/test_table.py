"""A table of one's own: three formats, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from made_corpora import put
from multimodal_ser.corpora import CORPORA, Corpus
from multimodal_ser.errors import SerError
from multimodal_ser.labels import CLASS_SETS


def read(path: Path, text: str, **options: str) -> Corpus:
    path.write_text(text, encoding="utf-8")
    return CORPORA["table"].read(path, **options)


@pytest.mark.parametrize("separator", [",", "\t"])
def test_cells(separator: str, tmp_path: Path) -> None:
    put(tmp_path / "a" / "one.wav")
    header = ["audio", "emotion", "text", "speaker", "start", "end", "split", "mood"]
    cells = ["a/one.wav", "anger", '"Hello, you"', "7", "0.5", "1.25", "dev", "grim"]
    table = tmp_path / ("mine.csv" if separator == "," else "mine.tsv")
    corpus = read(table, f"{separator.join(header)}\n{separator.join(cells)}\n\n")
    (row,) = corpus.utterances
    assert row.id == "mine/a/one@0.5"
    assert row.audio == str(tmp_path / "a/one.wav")
    assert (row.text, row.speaker, row.start, row.end) == ("Hello, you", "7", 0.5, 1.25)
    assert (row.split, row.extra) == ("dev", {"mood": "grim"})
    assert CLASS_SETS["common4"].class_of(row.corpus, row.emotion) == "anger"


def test_json_lines_and_a_name_of_its_own(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "audio": None, "emotion": "neutral", "text": "words alone", "age": 3},
        {"id": "y", "audio": "gone.wav", "emotion": "neutral"},
        {"id": "z", "audio": "", "emotion": "", "text": "no label"},
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    corpus = read(tmp_path / "t.jsonl", text, name="lab")
    (row,) = corpus.utterances
    assert (row.id, row.corpus, row.audio, row.extra) == ("lab/x", "lab", None, {"age": 3})
    assert corpus.left_out == ["lab/y (line 2): no such file", "lab/z (line 3): no emotion"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,emotion\na.wav,anger\n", r"mine\.csv:1: .*\['audio'\] missing"),
        ("audio,emotion,emotion\na.wav,anger,joy\n", r"mine\.csv:1: .*more than once"),
        ("audio,emotion\na.wav,anger,sad\n", r"mine\.csv:2: has 3 cells"),
        ("audio,emotion\na.wav\n", r"mine\.csv:2: has 1 cells"),
        ("audio,emotion,start\na.wav,anger,soon\n", r"mine\.csv:2: start is 'soon'"),
        ("audio,emotion,end\na.wav,anger,-1\n", r"mine\.csv:2: end is '-1'"),
        ("audio,emotion,start,end\na.wav,anger,2,1\n", r"mine\.csv:2: end 1.0 is not after"),
        ("audio,emotion,split\na.wav,anger,valid\n", r"mine\.csv:2: split 'valid'; allowed: train"),
        ("audio,emotion\na.wav,anger\na.wav,sad\n", r"mine\.csv:3: .* that of line 2"),
        ("audio,emotion,text\n,anger,hello\n", r"mine\.csv:2: no audio"),
        ('audio,emotion\na.wav,"anger\n' + "b" * 140_000, r"mine\.csv:3: .*open quote"),
        ("audio,emotion\na.wav,anger\n", "no mine recordings .*no such file"),
    ],
)
def test_errors_name_line_and_column(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SerError, match=message):
        read(tmp_path / "mine.csv", text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not a JSON object"),
        ("[1]", "but list"),
        ('{"audio": [], "emotion": "a"}', "audio is"),
    ],
)
def test_errors_in_json_lines(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SerError, match=rf"t\.jsonl:2: .*{message}"):
        read(tmp_path / "t.jsonl", "\n" + line)


@pytest.mark.parametrize("name", ["cremad", "a/b", ""])
def test_names_that_are_taken_or_odd(name: str, tmp_path: Path) -> None:
    with pytest.raises(SerError, match="may not be named"):
        read(tmp_path / "mine.csv", "audio,emotion\n", name=name)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SerError, match=r"\.csv, \.tsv, \.jsonl"):
        read(tmp_path / "mine.xlsx", "")
