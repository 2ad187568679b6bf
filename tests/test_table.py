"""A table of one's own: three formats, and errors that name the line."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from made_corpora import put
from multimodal_ser.corpora import CORPORA, Corpus
from multimodal_ser.corpora.labels import CLASS_SETS
from multimodal_ser.corpora.utterance import read_manifest, write_manifest
from multimodal_ser.errors import SerError
from multimodal_ser.splits import make_split


def read(path: Path, text: str, **options: Any) -> Corpus:
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


def test_segments_late_in_a_long_recording_have_ids_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    text = "audio,emotion,start,end\na.wav,joy,3600.123,3601\na.wav,anger,3600.124,3602\n"
    found = read(tmp_path / "t.csv", text, name="lab").utterances
    assert [row.id for row in found] == ["lab/a@3600.123", "lab/a@3600.124"]


def test_recordings_in_a_folder_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "clips" / "a.wav")
    (row,) = read(tmp_path / "t.csv", "file,label\na.wav,joy\n", audio_dir="clips").utterances
    assert (row.id, row.audio) == ("t/a", str(tmp_path / "clips" / "a.wav"))


def test_recordings_are_looked_for_in_the_current_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a table in the folder of `ser analyze --out`, whose recordings are elsewhere."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "calls" / "a.wav")
    table, text = tmp_path / "timelines" / "t.csv", "file,label\n{}a.wav,joy\n"
    table.parent.mkdir()
    for given, options in (("calls/", {}), ("", {"audio_dir": "calls"})):
        corpus = read(table, text.format(given), **options)
        assert [row.audio for row in corpus.utterances] == ["calls/a.wav"]
        assert f"note: recordings are read from {tmp_path}" in "".join(corpus.left_out)
    put(table.parent / "calls" / "a.wav")  # the table's own folder comes first
    (row,) = read(table, text.format("calls/")).utterances
    assert row.audio == str(table.parent / "calls" / "a.wav")


@pytest.mark.parametrize(
    ("written", "on_disk", "own_id"),
    [
        ("A/One.WAV", "A/one.wav", "A/One"),
        ("a/one.wav", "a/one.flac", "a/one"),  # converted since the table was made
        ("a/one", "a/one.wav", "a/one"),
        ("a/PODCAST_0001.5", "a/PODCAST_0001.5.wav", "a/PODCAST_0001.5"),
    ],
)
def test_recordings_under_another_ending_or_in_other_capitals(
    written: str, on_disk: str, own_id: str, tmp_path: Path
) -> None:
    put(tmp_path / on_disk)
    put(tmp_path / "a" / "PODCAST_0001.6.wav")
    corpus = read(tmp_path / "t.csv", f"audio,emotion\n{written},anger\n")
    (row,) = corpus.utterances
    assert (row.id, row.audio) == (f"t/{own_id}", str(tmp_path / on_disk))
    assert (
        "note: 1 recording found under names with another ending or in other capitals, such as "
        f"{Path(on_disk).name} for {Path(written).name}"
    ) in corpus.left_out


def test_of_two_recordings_with_one_name_none_is_guessed(tmp_path: Path) -> None:
    for ending in ("wav", "mp3"):
        put(tmp_path / f"one.{ending}")
    put(tmp_path / "two.wav")
    corpus = read(tmp_path / "t.csv", "audio,emotion\none,anger\ntwo.wav,anger\n")
    assert [row.id for row in corpus.utterances] == ["t/two"]
    assert corpus.left_out[0] == "t/one (line 2): no such file"


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


def test_json_as_a_list_and_lines_in_a_file_called_json(tmp_path: Path) -> None:
    """As pandas writes records, and as NeMo names its manifests."""
    put(tmp_path / "a.wav")
    put(tmp_path / "b.wav")
    rows = [{"audio_filepath": f"{name}.wav", "label": "joy"} for name in "ab"]
    for text in (json.dumps(rows, indent=2), "\n".join(map(json.dumps, rows))):
        corpus = read(tmp_path / "t.json", text)
        assert [row.id for row in corpus.utterances] == ["t/a", "t/b"]
    for text, message in (
        ('["a.wav"]', "json:1: not a JSON object, but str"),
        ("[{]", "json: neither"),
    ):
        with pytest.raises(SerError, match=message):
            read(tmp_path / "t.json", text)
    with pytest.raises(SerError, match=r"json:1: not a JSON object"):
        read(tmp_path / "t.json", json.dumps({"rows": rows}, indent=2))


def test_parquet_as_pandas_writes_it(tmp_path: Path) -> None:
    pyarrow, parquet = (pytest.importorskip(n) for n in ("pyarrow", "pyarrow.parquet"))
    put(tmp_path / "a.wav")
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    cells = {"path": ["a.wav"] * 2, "label": ["anger", "joy"], "spk": [7, None],
             "start_ms": [0.0, 500.0], "age": [float("nan"), 30.0], "when": [when] * 2}  # fmt: skip
    parquet.write_table(pyarrow.table(cells), tmp_path / "t.parquet")
    one, two = CORPORA["table"].read(tmp_path / "t.parquet").utterances
    assert (one.emotion, one.speaker, two.speaker, two.start) == ("anger", "7", None, 0.5)
    assert one.extra == {"when": "2026-01-02 00:00:00+00:00"}
    assert two.extra["age"] == 30.0
    votes = [{"anger": 2, "joy": 1}, {"joy": 3}]  # which become {"anger": None, "joy": 3}
    cells = {"path": ["a.wav"] * 2, "id": ["1", "2"], "label": [b"anger", b"joy"], "votes": votes}
    parquet.write_table(pyarrow.table(cells), tmp_path / "t.parquet")
    found = CORPORA["table"].read(tmp_path / "t.parquet").utterances
    assert [(row.emotion, row.votes) for row in found] == [("anger", votes[0]), ("joy", votes[1])]
    sound = [{"bytes": bytes(5000), "path": "a.wav"}]
    parquet.write_table(pyarrow.table({"audio": sound, "label": ["joy"]}), tmp_path / "t.parquet")
    with pytest.raises(SerError, match=r"text or a number; .*ser manifest huggingface") as caught:
        CORPORA["table"].read(tmp_path / "t.parquet")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(SerError, match=r"ends in '.xlsx'.*save other tables as .csv"):
        CORPORA["table"].read(tmp_path / "t.xlsx")


def test_ratings_and_votes(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    text = "audio;emotion;Activation;valence;votes\na.wav;anger;2,5;nan;anger:3, no idea:1\n"
    (row,) = read(tmp_path / "t.csv", text).utterances
    assert row.attributes == {"arousal": 2.5}
    assert row.votes == {"anger": 3, "no idea": 1}
    cells = {"audio": "a.wav", "emotion": "anger", "valence": -1, "votes": {"anger": 0.5}}
    (row,) = read(tmp_path / "t.jsonl", json.dumps(cells)).utterances
    assert (row.attributes, row.votes) == ({"valence": -1}, {"anger": 0.5})
    (row,) = read(tmp_path / "t.csv", text, columns=("votes=none",)).utterances
    assert (row.votes, row.extra) == ({}, {"votes": "anger:3, no idea:1"})


def test_ratings_serve_where_there_is_no_emotion(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path / f"{name}.wav")
    text = "audio,arousal\na.wav,2.5\n"
    (row,) = read(tmp_path / "t.csv", text, columns=("emotion=none",)).utterances
    assert (row.emotion, row.attributes) == ("no label", {"arousal": 2.5})
    text = "audio,emotion,valence,votes\na.wav,,,anger:3 joy:1\nb.wav,,,joy:1 anger:1\nc.wav,,2,\n"
    corpus = read(tmp_path / "t.csv", f"{text}d.wav,,,\n")
    assert [row.emotion for row in corpus.utterances] == ["anger", "no agreement", "no label"]
    assert corpus.left_out == ["t/d (line 5): no emotion"]
    spelt = "FileName,EmoClass,EmoAct,EmoVal,EmoDom\na.wav,anger,4,2,5\n"  # MSP-Podcast's
    (row,) = read(tmp_path / "t.csv", spelt).utterances
    assert (row.emotion, [*row.attributes.values()]) == ("anger", [4, 2, 5])
    write_manifest(corpus.utterances, tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == corpus.utterances
    with pytest.raises(SerError, match="--columns emotion=NAME, or --columns emotion=none if"):
        read(tmp_path / "t.csv", text.replace("emotion,", "mood,"))  # a column that is not known
    with pytest.raises(SerError, match=r"--columns emotion=NAME$"):
        read(tmp_path / "t.csv", "audio,mood\na.wav,grim\n", columns=("emotion=none",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio,emotion,valence\na.wav,anger,high\n", r"mine\.csv:2: valence is 'high'.*=none"),
        ("audio,emotion,votes\na.wav,anger,7\n", r"mine\.csv:2: votes is '7'.*anger:3"),
        ("audio,emotion,votes\na.wav,anger,joy:0\n", r"mine\.csv:2: .*not all 0"),
        ("sound,emotion\na.wav,anger\n", r"mine\.csv:1: .*\['audio'\] missing"),
        ("audio,emotion,emotion\na.wav,anger,joy\n", r"mine\.csv:1: .*more than once"),
        ("audio,emotion\na.wav,anger,sad\n", r"mine\.csv:2: has 3 cells"),
        ("audio,emotion\na.wav\n", r"mine\.csv:2: has 1 cells"),
        ("audio,emotion,start\na.wav,anger,soon\n", r"mine\.csv:2: start is 'soon'"),
        ("audio,emotion,end\na.wav,anger,-1\n", r"mine\.csv:2: end is '-1'"),
        ("audio,emotion,start,end\na.wav,anger,2,1\n", r"mine\.csv:2: end 1.0 is not after"),
        ("audio,emotion,split\na.wav,anger,later\n", r"mine\.csv:2: split 'later'; allowed: train"),
        ("audio,emotion\na.wav,anger\na.wav,sad\n", r"mine\.csv:3: .* that of line 2"),
        ("audio,emotion,text\n,anger,hello\n", r"mine\.csv:2: no audio"),
        ('audio,emotion\na.wav,"anger\n' + "b" * 140_000, r"mine\.csv:2: .*open quote"),
        ("audio,emotion\na.wav,anger\n", "none of its 1 recordings is there.*a.wav;.*--audio-dir"),
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


def test_rows_without_recording_and_words_are_left_out(tmp_path: Path) -> None:
    corpus = read(tmp_path / "t.csv", "id,audio,emotion,text\n1,,joy,Well.\n2,,joy,\n")
    assert [row.text for row in corpus.utterances] == ["Well."]
    assert corpus.left_out == ["t/2 (line 3): neither audio nor words"]


def test_a_table_of_labels_for_features_needs_no_recordings(tmp_path: Path) -> None:
    text = "id,emotion,speaker,text\n1,anger,a,so what\n2,joy,b,\n"
    with pytest.raises(SerError, match="--columns audio=NAME, or --columns audio=none if a column"):
        read(tmp_path / "t.csv", text)
    corpus = read(tmp_path / "t.csv", text, columns=("audio=none",))
    assert corpus.left_out == []
    assert [(row.id, row.emotion, row.audio, row.text) for row in corpus.utterances] == [
        ("t/1", "anger", None, "so what"),
        ("t/2", "joy", None, None),
    ]
    with pytest.raises(SerError, match=r"\['audio'\] missing"):
        read(tmp_path / "t.csv", "emotion,speaker\nanger,a\n", columns=("audio=none",))


def test_a_zero_byte_is_no_sign_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"audio,emotion\na.wav,anger\nb.wav,joy\0\n")
    with pytest.raises(SerError, match=r"t\.csv:3: has a zero byte"):
        CORPORA["table"].read(path)


def test_half_of_a_character_is_refused_before_something_else_fails_on_it(tmp_path: Path) -> None:
    for row in ({"id": "1", "text": "\ud83d"}, {"id": "J\udcf6rg", "text": "Well."}):
        corpus = read(tmp_path / "t.jsonl", json.dumps({"audio": None, "emotion": "joy", **row}))
        with pytest.raises(SerError, match=r"(text|id) is .*; allowed: text in UTF-8; rename"):
            write_manifest(corpus.utterances, tmp_path / "m.jsonl")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SerError, match=r"\.csv, \.tsv, \.txt, \.jsonl"):
        read(tmp_path / "mine.xlsx", "")


SEGMENTS = ["0.0,0.5", "0.5,1.0", "1.0,1.5"]
STRETCHES = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]


def segments(folder: Path, header: str, cells: list[str], **options: Any) -> Corpus:
    put(folder / "long.wav")
    lines = [f"long.wav,joy,s{number},{cell}" for number, cell in enumerate(cells)]
    text = "\n".join([f"audio,emotion,id,{header}", *lines])
    return read(folder / "t.csv", text + "\n", **options)


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("start,end", SEGMENTS),
        ("start_time,end_time", SEGMENTS),
        ("Start,End", SEGMENTS),
        ("StartTime,EndTime", SEGMENTS),
        ("begin,stop", SEGMENTS),
        ("onset,offset,duration", [f"{cell},0.5" for cell in SEGMENTS]),
        ("onset,duration", ["0.0,0.5", "0.5,0.5", "1.0,0.5"]),
        ("offset,duration", ["0.0,0.5", "0.5,0.5", "1.0,0.5"]),
        ("start,length,duration", ["0.0,3,0.5", "0.5,2,0.5", "1.0,7,0.5"]),  # in words
        ("xmin,xmax", SEGMENTS),
        ("start_ms,end_ms", ["0,500", "500,1000", "1000,1500"]),
        ("Start (s),End (s)", SEGMENTS),
        ("start,end", ["00:00.0,00:00.5", '"00:00:00,5",00:00:01', "0:01,0:01.5"]),
        ("start,end", ['"0,0","0,5"', '"0,5","1,0"', '"1,0","1,5"']),
    ],
)
def test_stretches_under_the_names_in_use(tmp_path: Path, columns: str, cells: list[str]) -> None:
    corpus = segments(tmp_path, columns, cells)
    assert [(row.start, row.end) for row in corpus.utterances] == STRETCHES
    assert all(row.extra.keys() <= {"duration", "length"} for row in corpus.utterances)


def test_a_length_that_is_no_duration_is_told_or_kept_as_it_is(tmp_path: Path) -> None:
    corpus = segments(tmp_path, "start,len", ["0,0.5", "0.5,0.5"])
    assert corpus.utterances[1].end == 1.0
    assert "note: the column 'len' was read as the length of each segment" in corpus.left_out
    (one,) = read(tmp_path / "t.csv", "audio,emotion,length\nlong.wav,joy,short\n").utterances
    assert one.extra == {"length": "short"}
    with pytest.raises(SerError, match=r"from is 'Ann'; .*--columns start=none"):
        read(tmp_path / "t.csv", "audio,emotion,from,to\nlong.wav,joy,Ann,Bob\n")


@pytest.mark.parametrize("columns", ["von,bis", "t1,t2", "a,b"])
def test_columns_that_look_like_times_are_asked_about(tmp_path: Path, columns: str) -> None:
    one, other = columns.split(",")
    with pytest.raises(
        SerError, match=rf"3 rows name a recording.*--columns start={one} end={other}"
    ):
        segments(tmp_path, columns, SEGMENTS)
    corpus = segments(tmp_path, columns, SEGMENTS, columns=(f"start={one}", f"end={other}"))
    assert [(row.start, row.end) for row in corpus.utterances] == STRETCHES
    corpus = segments(tmp_path, columns, SEGMENTS, columns=("start=none",))
    assert corpus.utterances[1].extra == {one: "0.5", other: "1.0"}


def test_times_in_samples_and_two_columns_for_one_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(SerError, match="'start_sample' is in sample, but seconds are needed"):
        segments(tmp_path, "start_sample,end_sample", SEGMENTS)
    with pytest.raises(
        SerError, match=r"\['onset', 'begin'\] could all mean start.*--columns start="
    ):
        segments(tmp_path, "onset,begin", SEGMENTS)
    with pytest.raises(SerError, match="unknown column 'begins'"):
        segments(tmp_path, "start,end", SEGMENTS, columns=("begins=start",))


def names(folder: Path, speakers: list[Any], emotions: list[Any] | None = None) -> Corpus:
    """A table in JSON Lines with one recording a row."""
    rows = []
    for number, speaker in enumerate(speakers):
        put(folder / f"{number}.wav")
        emotion = emotions[number] if emotions else "joy"
        rows.append({"audio": f"{number}.wav", "emotion": emotion, "speaker": speaker})
    return read(folder / "t.jsonl", "\n".join(json.dumps(row) for row in rows))


@pytest.mark.parametrize(
    "nothing",
    [float("nan"), None, "", " ", "nan", "NaN", "<NA>", "null", "None", "NA", "-", "?", "\\N"],
)
def test_words_for_missing_values_are_not_names(tmp_path: Path, nothing: object) -> None:
    corpus = names(tmp_path, [nothing, "03", "03"], ["joy", "joy", nothing])
    assert [row.speaker for row in corpus.utterances] == [None, "03"]
    assert "t/2 (line 3): no emotion" in corpus.left_out


@pytest.mark.parametrize(
    ("speakers", "one", "said"),
    [
        (["Jos\u00e9", "Jose\u0301", "Jose\u0301 "], {"Jos\u00e9"}, False),
        (["03", "03 ", "\t03"], {"03"}, False),
        ([3, "3", 3], {"3"}, False),
        ([3, 3.0, "03"], {"3", "3.0", "03"}, True),
        (["anna", "Anna", "ANNA "], {"anna", "Anna", "ANNA"}, True),
        (["Jos\u00e9", "Jose", "JOSE"], {"Jos\u00e9", "Jose", "JOSE"}, True),
        (["spk3", "SPK_03", "spk-3"], {"spk3", "SPK_03", "spk-3"}, True),
        (["ana", "a\u200bna", "an\u00ada"], {"ana", "a\u200bna", "an\u00ada"}, True),
        (["3", "\uff13", "\u0663"], {"3", "\uff13", "\u0663"}, True),
    ],
)
def test_one_speaker_spelt_in_several_ways(tmp_path: Path, speakers, one, said) -> None:  # type: ignore[no-untyped-def]
    corpus = names(tmp_path, [*speakers, "p", "q", "r"])
    assert {row.speaker for row in corpus.utterances[:3]} == one
    notes = [line for line in corpus.left_out if "differ in case, accents, spaces or zeros" in line]
    assert bool(notes) is said
    split = make_split(corpus.utterances, "speaker")
    assert len(split.folds) == 4  # they stay on one side
    assert bool(split.notes) is said
    twins = {row.id for row in corpus.utterances[:3]}
    for fold in split.folds:
        assert twins <= {*fold.test} or not twins & {*fold.test}


def test_columns_that_may_say_who_speaks_are_named(tmp_path: Path) -> None:
    put(tmp_path / "0.wav")
    for column in ("participant", "Speaker Name", "client_id", "SpkrID"):
        rows = f"audio,emotion,{column}\n0.wav,joy,p1\n"
        assert read(tmp_path / "t.csv", rows).utterances[0].speaker == "p1"
    corpus = read(tmp_path / "t.csv", "audio,emotion,voice_no\n0.wav,joy,p1\n")
    assert corpus.utterances[0].speaker is None
    assert any("['voice_no'] may name the speaker" in line for line in corpus.left_out)
    for column in ("voice_no", "none"):
        corpus = read(
            tmp_path / "t.csv",
            "audio,emotion,voice_no\n0.wav,joy,p1\n",
            columns=(f"speaker={column}",),
        )
        assert not any("may name the speaker" in line for line in corpus.left_out)


def test_columns_that_are_read_although_they_mean_something_else_have_a_remedy(
    tmp_path: Path,
) -> None:
    put(tmp_path / "0.wav")
    put(tmp_path / "1.wav")
    for column, ours in (("set", "split"), ("utterance_id", "id")):
        rows = f"fname,class,{column}\n0.wav,joy,A\n1.wav,fear,A\n"
        with pytest.raises(SerError, match=f"--columns {ours}=none"):
            read(tmp_path / "t.csv", rows)
        found = read(tmp_path / "t.csv", rows, columns=(f"{ours}=none",)).utterances
        assert [(row.emotion, row.extra) for row in found] == [
            ("joy", {column: "A"}),
            ("fear", {column: "A"}),
        ]


def test_other_words_for_an_emotion_are_named(tmp_path: Path) -> None:
    corpus = names(tmp_path, ["p", "q", "r"], ["anger ", "Anger", "anger"])
    assert [row.emotion for row in corpus.utterances] == ["anger", "Anger", "anger"]
    assert any("emotions 'Anger' and 'anger' differ" in line for line in corpus.left_out)


def test_a_comma_that_may_separate_thousands_is_asked_about(tmp_path: Path) -> None:
    put(tmp_path / "0.wav")
    head = "audio,emotion,start,end\n0.wav,joy,0.25,"
    with pytest.raises(SerError, match=r"t\.csv:2: end is '1,234', which is 1\.234 or 1234"):
        read(tmp_path / "t.csv", head + '"1,234"\n')
    told = read(tmp_path / "t.csv", head + '"1,234"\n0.wav,joy,"1,5","2,25"\n').utterances
    assert [row.end for row in told] == [1.234, 2.25]


def test_columns_of_one_meaning_are_named_with_their_file(tmp_path: Path) -> None:
    with pytest.raises(SerError, match=r"t\.csv:1: the columns \['label', 'class'\]"):
        read(tmp_path / "t.csv", "audio,label,class\n0.wav,0,joy\n")
    put(tmp_path / "0.wav")
    (one,) = read(tmp_path / "t.csv", "audio,labels\n0.wav,joy\n").utterances
    assert one.emotion == "joy"


@pytest.mark.parametrize(("predicted", "named"), [(True, 4), (False, 2)])
def test_speakers_that_were_only_numbered_are_other_people_in_other_recordings(
    tmp_path: Path, predicted: bool, named: int
) -> None:
    lines = ["audio,start,end,speaker,emotion" + ",confidence,p_anger,p_joy" * predicted]
    for name in "ab":
        put(tmp_path / f"{name}.wav")
        for place, speaker in enumerate(("speaker 1", "SPEAKER_01", "agent")):
            lines.append(
                f"{name}.wav,0.{place},0.{place + 1},{speaker},joy" + ",0.9,0.1,0.9" * predicted
            )
    corpus = read(tmp_path / "t.csv", "\n".join(lines) + "\n")
    numbered = {row.speaker for row in corpus.utterances} - {"agent"}
    assert len(numbered) == named  # without predictions, the names are the user's own
    assert any("`ser analyze` had numbered" in line for line in corpus.left_out) == predicted


@pytest.mark.parametrize(
    ("columns", "cells", "predicted"),
    [
        ("file,label,confidence,p_anger,p_joy", "{},joy,0.9,0.1,0.9", True),
        ("file,label,confidence,p_anger,p_joy", "{},anger,0.9,0.1,0.9", False),  # corrected
        ("file,emotion,label,confidence,p_anger,p_joy", "{},joy,joy,0.9,0.1,0.9", False),
        ("file,emotion,confidence", "{},joy,0.9", False),  # a rater's
        ("file,emotion,p_anger,p_joy", "{},joy,0.1,0.9", False),
    ],
)
def test_predictions_are_not_taken_for_annotations(
    tmp_path: Path, columns: str, cells: str, predicted: bool
) -> None:
    for name in "ab":
        put(tmp_path / f"{name}.wav")
    unsure = cells.replace("joy", "uncertain", 1).replace("0.9", "0.5").replace("0.1", "0.5")
    lines = [columns, cells.format("a.wav"), unsure.format("b.wav")]
    corpus = read(tmp_path / "t.csv", "\n".join(lines))
    assert any("a model's predictions" in line for line in corpus.left_out) == predicted
    marked = [row.extra.get("label") == "predicted" for row in corpus.utterances]
    assert marked == [predicted] * 2
