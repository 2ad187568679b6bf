"""Hostile manifests, tables, checkpoints and names: nothing runs, nothing is written elsewhere."""

import csv
import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from made_sound import tone
from multimodal_ser.cli import main
from multimodal_ser.common.files import parse_json
from multimodal_ser.corpora import Utterance, read_manifest, write_manifest
from multimodal_ser.corpora.own import read_table as read_table
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.features import extract
from multimodal_ser.predict import load
from test_extract import FakeEncoder

DEEP = "[" * 1_000_000 + "]" * 1_000_000
ELSEWHERE = ["../../../{}/x", "{}/x", "..", ".", "a/../../{}/x", "~/x", "x\x00y", "a/b", "",
             "C:\\x", "..\\..\\x", "-rf", ".hidden"]  # fmt: skip


class Runs:
    """Makes `marker` where anything unpickles it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Works in an empty folder; afterwards nothing may lie beside it but what was there."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "elsewhere"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]


def recording(folder):
    import soundfile

    path = folder / "a.wav"
    if not path.exists():
        soundfile.write(path, tone(0.5), 16_000)
    return str(path)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_corpus_name_cannot_leave_its_folder(inside, tmp_path, name):
    corpus = name.format(tmp_path / "elsewhere")
    rows = [Utterance(id="u", corpus=corpus, emotion="anger", audio=recording(inside))]
    with pytest.raises(FeatureError, match="allowed"):
        extract(rows, FakeEncoder(), inside / "features")
    assert not (inside / "features").exists()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_id_is_never_a_path(inside, tmp_path, name):
    key = name.format(tmp_path / "elsewhere") or "/"
    rows = [Utterance(id=key, corpus="made", emotion="anger", audio=recording(inside))]
    made, whole = inside / "features" / "made", {"fake.safetensors", "manifest.jsonl"}
    if "\0" in key:  # no manifest could be read again with it
        with pytest.raises(SerError, match="text without the character 0"):
            extract(rows, FakeEncoder(), inside / "features")
        assert not made.exists()
        return
    assert extract(rows, FakeEncoder(), inside / "features").path.parent == made
    assert {path.name for path in made.iterdir()} == whole


@pytest.mark.parametrize("name", ["../../../{}/x", "{}/x", "a/b"])
def test_imported_features_cannot_leave_their_folder(inside, tmp_path, name, capsys):
    corpus = name.format(tmp_path / "elsewhere")
    write_manifest([Utterance(id="u", corpus=corpus, emotion="anger")], inside / "m.jsonl")
    np.savez(inside / "f.npz", u=np.zeros((1, 4), "f4"))
    line = ["import-features", "f.npz", "--manifest", "m.jsonl", "--out", "features"]
    assert main([*line, "--name", "mine", "--modality", "audio"]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not (inside / "features").exists()


def test_json_nested_a_million_deep_is_an_error_everywhere(inside, capsys):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)
    row = '{"id": "u", "corpus": "c", "emotion": "e", "extra": ' + DEEP + "}\n"
    Path("m.jsonl").write_text(row)
    with pytest.raises(SerError, match=r"m\.jsonl:1"):
        read_manifest(Path("m.jsonl"))
    for name in ("split.json", "t.jsonl"):
        Path(name).write_text(DEEP)
    Path("run").mkdir()
    for name in ("config.json", "metrics.json", "predictions.csv", "history.jsonl"):
        Path("run", name).write_text(DEEP)
    save_file({"a": torch.zeros(1)}, "run/model.safetensors", {"run": DEEP})
    save_file({"a": torch.zeros(1)}, "tuned.safetensors", {"tuned": DEEP})
    lines = [
        "report run", "report .", "predict a.wav --model run",
        "predict a.wav --model tuned.safetensors",
        "manifest table --root t.jsonl --out o.jsonl",
        "results --runs . --tables split.json --out o.md",
    ]  # fmt: skip
    recording(inside)
    for line in lines:
        assert main(line.split()) in (1, 2), line
        told = capsys.readouterr().err
        assert "Traceback" not in told, line
        assert len(told) < 5_000, line


def test_a_row_of_200_megabytes(inside):
    big = {"id": "u", "corpus": "c", "emotion": "e", "text": "a" * 200_000_000}
    Path("m.jsonl").write_text(json.dumps(big) + "\n")
    (row,) = read_manifest(Path("m.jsonl"))
    assert row.text == big["text"]


def test_a_cell_of_50_megabytes_and_a_quote_that_never_ends(inside, capsys):
    for name, content in (
        ("big.csv", "path,emotion,text\na.wav,anger," + "a" * 50_000_000 + "\n"),
        ("open.csv", 'path,emotion\na.wav,"' + "x\n" * 1_000_000),
    ):
        Path(name).write_text(content)
        recording(inside)
        code = main(["manifest", "table", "--root", name, "--out", f"{name}.jsonl"])
        told = capsys.readouterr().err
        assert code in (0, 1, 2)
        assert "Traceback" not in told
        assert len(told) < 5_000


def test_hundreds_of_thousands_of_rows(inside):
    """In time and memory that grow with their number."""
    line = '{{"id": "u{0}", "corpus": "c", "emotion": "e", "speaker": "s{1}"}}\n'
    with Path("m.jsonl").open("w") as file:
        for number in range(200_000):
            file.write(line.format(number, number % 1000))
    began = time.process_time()
    rows = read_manifest(Path("m.jsonl"))
    assert len(rows) == 200_000
    assert time.process_time() - began < 60
    assert len({id(row.speaker) for row in rows}) == 1_000  # repeated words are kept once


def checkpoints(marker):
    """Model files that would make `marker`, by name."""
    found = {}
    for name, how in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        file = io.BytesIO()
        torch.save({"model": {"a": torch.zeros(2), "b": Runs(marker)}}, file, **how)
        found[f"{name}.pt"] = file.getvalue()
    found["plain.pt"] = pickle.dumps(Runs(marker))
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("../../../elsewhere/x/data.pkl", pickle.dumps(Runs(marker)))
        archive.writestr("../../../elsewhere/version", "3")
    found["paths.pt"] = buffer.getvalue()
    found["pickle.safetensors"] = pickle.dumps(Runs(marker))
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    found["huge.safetensors"] = struct.pack("<Q", len(header)) + header.encode()
    found["long.safetensors"] = struct.pack("<Q", 1 << 62) + b"{"
    found["deep.safetensors"] = struct.pack("<Q", len(DEEP)) + DEEP.encode()
    found["none.onnx"] = b"\x08\x07" + b"\xff" * 200
    return found


@pytest.mark.parametrize("name", sorted(checkpoints(Path("x"))))
def test_a_checkpoint_runs_nothing(inside, name):
    marker = inside / "marker"
    Path(name).write_bytes(checkpoints(marker)[name])
    with pytest.raises(SerError) as told:
        load(name)
    assert len(str(told.value)) < 2_000
    folder = inside / "emotion2vec"
    folder.mkdir()
    (folder / "model.pt").write_bytes(checkpoints(marker)[name])
    with pytest.raises(SerError):
        load("emotion2vec-plus-large", weights=str(folder))
    assert not marker.exists()


def test_an_onnx_file_reads_no_other_file(inside, tmp_path):
    """Its tensors may name files for their data: none outside its folder is opened."""
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    secret = tmp_path / "a" / "secret"
    secret.write_bytes(np.full(4, 7, "f4").tobytes())
    try:
        for place in (str(secret), "../../secret", "link"):
            tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
            for key, value in {"location": place, "length": "16"}.items():
                tensor.external_data.add(key=key, value=value)
            graph = onnx.helper.make_graph(
                [onnx.helper.make_node("Identity", ["w"], ["logits"])], "g", [],
                [onnx.helper.make_tensor_value_info("logits", 1, [4])], [tensor],
            )  # fmt: skip
            Path("m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
            if place == "link":
                Path("link").symlink_to(secret)
            with pytest.raises(SerError):
                load("m.onnx")
    finally:
        secret.unlink()


@pytest.mark.parametrize(
    "name",
    ["hub:../../etc/passwd", "hub:a/..", "hub:/etc/passwd", "hub:a/b@../../x", "hub:a/b@-x",
     "hub:a b/c", "hub:a/b;touch marker", "hub:", "hub:https://evil.example/a", "hub:a/b\nc",
     "hub:$(touch marker)/b", "../../../etc/passwd", "\x00"],
)  # fmt: skip
def test_a_hub_name_cannot_leave_its_folder(inside, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(inside / "cache"))
    with pytest.raises(SerError):
        load(name)
    assert not Path("marker").exists()


PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://%s\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile '%s'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na=%s\n",
    "dash": b"<?xml version='1.0'?><MPD><Period><BaseURL>file://%s</BaseURL></Period></MPD>",
    "binary hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#\x00\n#EXTINF:1,\nfile://%s\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("ending", ["wav", "mp4", "m3u8"])
def test_a_playlist_opens_no_other_file(inside, name, ending):
    """FFmpeg follows playlists to files and addresses; here it may not."""
    from multimodal_ser.audio import read_audio

    content = PLAYLISTS[name] % recording(inside).encode()
    Path(f"list.{ending}").write_bytes(content)
    opened = []
    watching = [True]
    sys.addaudithook(
        lambda event, given: watching and event == "socket.connect" and opened.append(given)
    )
    for source in (Path(f"list.{ending}"), content):
        with pytest.raises(SerError):
            read_audio(source)
    watching.clear()
    assert not opened


def test_a_table_of_hostile_cells(inside):
    """Formulas, escapes and paths in cells stay text; the reader opens only recordings."""
    cells = ["=cmd|' /C calc'!A0", "\x1b[31m", "../../elsewhere/x", "a" * 10_000, "%s%n", "{0}"]
    recording(inside)
    with Path("t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "emotion", "speaker", "text"])
        rows = enumerate(cells)
        writer.writerows([f"u{place}", "a.wav", "anger", cell, cell] for place, cell in rows)
    found = read_table(Path("t.csv"))
    assert [row.text for row in found.utterances] == cells
    assert {Path(row.audio).name for row in found.utterances} == {"a.wav"}
