"""A table's bytes: encodings, separators, quotes, types; wrong cells name row and column."""

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from made_corpora import put
from multimodal_ser.common.spelling import is_missing
from multimodal_ser.corpora import CORPORA
from multimodal_ser.corpora.utterance import read_manifest
from multimodal_ser.errors import SerError
from test_table import read

FOUND_OUT = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
CHINESE = "audio,emotion,speaker,text\n0.wav,joy,王小明,你为什么这样做呢我真的不明白\n"
JAPANESE = "audio,emotion,speaker,text\n0.wav,joy,鈴木さん,どうしてそんなことをするのですか\n"
FRENCH = "audio,emotion,speaker,text\n0.wav,joy,José,élève à la forêt\n"
POLISH = "audio,emotion,speaker,text\n0.wav,joy,Łukasz,dlaczego to zrobiłeś\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "utf-8"), (CHINESE, "utf-8-sig"), (CHINESE, "utf-16"), (CHINESE, "utf-16-le"),
        (CHINESE, "utf-16-be"), (CHINESE, "utf-32"), (CHINESE, "gbk"), (CHINESE, "gb18030"),
        (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"), (FRENCH, "latin-1"), (FRENCH, "cp1252"),
        (POLISH, "cp1250"),
    ],
)  # fmt: skip
def test_encodings_are_found_out_or_asked_for(tmp_path: Path, text: str, encoding: str) -> None:
    put(tmp_path / "0.wav")
    table = tmp_path / "t.csv"
    table.write_bytes(text.encode(encoding))
    speaker = text.split("\n")[1].split(",")[2]
    options = {} if encoding in FOUND_OUT else {"encoding": encoding}
    if options:
        with pytest.raises(SerError, match=r"t\.csv:2: is no UTF-8.*--encoding"):
            CORPORA["table"].read(table)
    assert CORPORA["table"].read(table, **options).utterances[0].speaker == speaker


def test_bytes_that_are_not_of_the_encoding_given_name_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("audio,emotion,speaker\na.wav,joy,José\n".encode("cp1252"))
    with pytest.raises(SerError, match=r"t\.csv:2: is not utf-8"):
        CORPORA["table"].read(tmp_path / "t.csv", encoding="utf-8")
    with pytest.raises(SerError, match="no encoding 'klingon'"):
        CORPORA["table"].read(tmp_path / "t.csv", encoding="klingon")


cell = some.text(
    some.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Zs", "Zl", "Zp"))
    | some.sampled_from("\n,;\t\"'| "),
    max_size=8,
).map(lambda text: unicodedata.normalize("NFC", text).strip())


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=some.lists(
        some.tuples(cell, cell, some.floats(0, 99).map(lambda x: round(x, 3))),
        min_size=1,
        max_size=5,
    ),
    separator=some.sampled_from(",;\t|"),
    encoding=some.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    ends=some.sampled_from(["\n", "\r\n"]),
    comma=some.booleans(),
    header=some.sampled_from(
        [
            ("audio", "emotion", "speaker", "text", "start"),
            ("Path", "Label", "Speaker_ID", "Transcript", "Onset (s)"),
            ("file", "Emotion", "SPEAKER", "sentence", "start_time"),
        ]
    ),
)
def test_any_table_gives_its_rows(tmp_path, rows, separator, encoding, ends, comma, header):
    put(tmp_path / "0.wav")
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=ends, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(header)
    for speaker, text, start in rows:
        written = f"{start}".replace(".", ",") if comma else f"{start}"
        writer.writerow(["0.wav", "joy", speaker, text, written])
    (tmp_path / "t.csv").write_bytes(out.getvalue().encode(encoding))
    starts = [f"{start:g}" for _, _, start in rows]
    if len(set(starts)) < len(starts):
        with pytest.raises(SerError, match=r"t\.csv:\d+: the id"):
            CORPORA["table"].read(tmp_path / "t.csv")
        return
    corpus = CORPORA["table"].read(tmp_path / "t.csv")
    assert [row.start for row in corpus.utterances] == [start for _, _, start in rows]
    for row, (speaker, text, _) in zip(corpus.utterances, rows, strict=True):
        for found, written in ((row.speaker, speaker), (row.text, text)):
            assert found == (None if is_missing(written) else written)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    place=some.integers(0, 3),
    column=some.sampled_from(["start", "end", "split"]),
    wrong=some.sampled_from(["soon", "-1", "1.2.3", "1,2,3", "inf", "0x1", "1:2:3:4", "later"]),
)
def test_a_wrong_cell_is_an_error_that_names_row_and_column(tmp_path, place, column, wrong):
    put(tmp_path / "0.wav")
    good = {"start": "0.5", "end": "1.5", "split": "dev"}
    lines = ["audio\temotion\tid\tstart\tend\tsplit"]
    for number in range(4):
        cells = good | ({column: wrong} if number == place else {})
        lines.append("\t".join(["0.wav", "joy", f"u{number}", *cells.values()]))
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SerError, match=rf"t\.tsv:{place + 2}: .*{column}.*allowed"):
        CORPORA["table"].read(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speaker": 1}, 'speaker is 1; allowed: text, such as "1"'),
        ({"id": 5}, 'id is 5; allowed: text, such as "5"'),
        ({"start": "0.2"}, "start is '0.2'; allowed: a number of seconds"),
        ({"start": True}, "start is True"),
        ({"end": float("nan")}, "end is nan"),
        ({"start": -1.0}, "start is -1.0"),
        ({"start": 2, "end": 1}, "end is 1; allowed: more than start, 2"),
        ({"emotion": None}, "emotion is None"),
        ({"emotion": ""}, "emotion is empty"),
        ({"text": ["a"]}, "text is"),
        ({"audio": 3.5}, "audio is 3.5"),
        ({"speaker": "03 "}, "speaker is '03 '; allowed: no space around it"),
        ({"speaker": "Jose\u0301"}, "speaker is .*composed"),
        ({"split": "val"}, "split is 'val'; allowed: train, dev, test"),
        ({"extra": [1]}, r"extra is \[1\]; allowed: an object"),
        ({"votes": 3}, "votes is 3; allowed: an object"),
        ({"votes": {"joy": -1}}, "votes of 'joy' is -1; allowed: a number of raters"),
        ({"votes": {"joy": 0}}, "votes is .*nobody voted"),
        ({"attributes": {"arousal": "2"}}, "attributes of 'arousal' is '2'; allowed: a number"),
        ({"attributes": {"activation": 2}}, "attributes has .*allowed: arousal, valence"),
        ({"audio": "a\0b.wav"}, "audio is .* without the character 0"),
    ],
)
def test_a_manifest_of_other_types_names_line_and_field(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    good = {"id": "my/a", "corpus": "my", "emotion": "joy", "audio": "a.wav"}
    rows = [good, good | {"id": "my/b"} | fields]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SerError, match=rf"m\.jsonl:2: {message}"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"id": "a", "corpus": "\xff"}', b"{oops"])
def test_a_line_that_is_no_manifest_is_one_error(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(line)
    with pytest.raises(SerError, match=r"m\.jsonl:1: "):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    "written", ["wav\\Jos\u00e9.wav", "wav/Jose\u0301.wav", "wav/Jos\u00e9.wav"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_another_system_are_found(tmp_path: Path, written: str, form: str) -> None:
    path = tmp_path / "wav" / unicodedata.normalize(form, "Jos\u00e9.wav")
    put(path)
    (row,) = read(tmp_path / "t.csv", f"audio,emotion\n{written},joy\n").utterances
    assert (row.id, row.audio) == ("t/wav/Jos\u00e9", str(path))
