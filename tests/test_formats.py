"""The readers of other tools' formats: what they read, what they ask, what they never run."""

import gzip
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from made_corpora import MAKERS, NAMED, put
from made_formats import (
    FORMAT_MAKERS,
    OPTIONS,
    lines_of,
    make_emobox,
    make_folders,
    make_huggingface,
    make_kaldi,
    make_lhotse,
    recording,
    sound_bytes,
    supervision,
    write,
    write_parquet,
)
from made_layouts import LAYOUTS, make_emodb2, make_msp_improv, make_resd
from multimodal_ser.cli import main
from multimodal_ser.corpora import CORPORA, Corpus, Utterance
from multimodal_ser.errors import SerError
from multimodal_ser.splits import make_split


def read(name: str, root: Path) -> Corpus:
    return CORPORA[name].read(FORMAT_MAKERS[name](root).root, **OPTIONS.get(name, {}))


def emotions(corpus: Corpus) -> dict[str, str]:
    return {one.id.rpartition("/")[2]: one.emotion for one in corpus.utterances}


def row(corpus: Corpus, own_id: str) -> Utterance:
    return next(one for one in corpus.utterances if one.id.endswith(own_id))


def test_audformat_joins_tables_and_says_scales(tmp_path: Path) -> None:
    corpus = read("audformat", tmp_path)
    one = row(corpus, "audio/1@2.25")
    assert (one.emotion, one.start, one.end, one.split) == ("happiness", 2.25, 3.75, "dev")
    assert (one.speaker, one.extra["sex"], one.attributes) == ("x", "female", {"arousal": 0.25})
    assert "note: arousal is on a scale from -1 to 1" in corpus.left_out
    with pytest.raises(SerError, match=r"emotion.*--columns emotion=NAME"):
        CORPORA["audformat"].read(tmp_path)
    with pytest.raises(SerError, match="it has: files, segments"):
        CORPORA["audformat"].read(tmp_path, tables="nothing")


def test_audformat_tables_that_disagree_are_asked_about(tmp_path: Path) -> None:
    root = make_emodb2(tmp_path).root
    table = root / "db.emotion.csv"
    table.write_text(table.read_text().replace("wav/03a01Wa.wav,anger", "wav/03a01Wa.wav,fear"))
    with pytest.raises(SerError, match=r"03a01Wa.*emotion 'fear'.*'anger'.*--tables"):
        CORPORA["audformat"].read(root)
    kept = CORPORA["audformat"].read(root, "mine", tables="files,emotion")
    assert row(kept, "wav/03a01Wa").emotion == "fear"


def test_audformat_pickles_are_not_read(tmp_path: Path) -> None:
    root = make_emodb2(tmp_path).root
    (root / "db.emotion.csv").rename(root / "db.emotion.pkl")
    with pytest.raises(SerError, match=r"db\.emotion\.csv"):
        CORPORA["audformat"].read(root)


def test_huggingface_names_classes_and_keeps_recordings_of_one_name_apart(tmp_path: Path) -> None:
    corpus = read("huggingface", tmp_path)
    one = row(corpus, "validation/neutral")
    assert (one.emotion, one.split, one.speaker, one.text) == ("neutral", "dev", "s2", "Words")
    assert str(one.audio).endswith(".flac")
    sounds = {Path(str(u.audio)).read_bytes() for u in corpus.utterances}
    assert len(sounds) == len(corpus.utterances) == 12


def test_huggingface_reads_what_save_to_disk_writes(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    root = make_huggingface(tmp_path).root
    before = emotions(CORPORA["huggingface"].read(root))
    for path in sorted((root / "data").iterdir()):
        table = pyarrow.parquet.read_table(path)
        out = root / path.name.split("-")[0] / "data-00000-of-00001.arrow"
        out.parent.mkdir()
        with pyarrow.ipc.new_stream(str(out), table.schema) as writer:
            writer.write_table(table)
        path.unlink()
    corpus = CORPORA["huggingface"].read(root)
    assert emotions(corpus) == before
    assert {u.split for u in corpus.utterances} == {"train", "dev", "test"}


def test_huggingface_takes_no_recording_of_another_version_of_the_same_size(tmp_path: Path) -> None:
    import pyarrow.parquet

    root = make_huggingface(tmp_path).root
    CORPORA["huggingface"].read(root)
    path = min((root / "data").glob("*.parquet"))
    table = pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    kind = next(name for name, cell in rows[0].items() if isinstance(cell, dict))
    for one in rows:
        one[kind]["bytes"] = one[kind]["bytes"][:-1] + b"\x7f"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), path)
    kept = {
        Path(str(one.audio)).read_bytes() for one in CORPORA["huggingface"].read(root).utterances
    }
    assert {one[kind]["bytes"] for one in rows} <= kept


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"recording": {"transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]}}, "Speed"),
        ({"type": "MixedCut", "tracks": [{"cut": {}}]}, "mixing of several cuts"),
    ],
)
def test_lhotses_sound_that_is_in_no_file_is_refused(
    given: dict[str, Any], what: str, tmp_path: Path
) -> None:
    """The file was read in its place, at the times of the altered sound."""
    write(tmp_path / "cuts.jsonl", json.dumps({"id": "c_sp1.1", "start": 0.5, **given}) + "\n")
    with pytest.raises(SerError, match=rf"jsonl:1: .*'c_sp1.1' .*\({what}\).*save_audios"):
        CORPORA["lhotse"].read(tmp_path)


def test_huggingface_says_what_to_do_with_shards_of_webdataset(tmp_path: Path) -> None:
    shard = tmp_path / "000.tar"
    shard.write_bytes(bytes(10_240))
    for root in (shard, tmp_path):
        with pytest.raises(SerError, match=r"no .parquet and no .arrow file.*unpacked .tar, as a"):
            CORPORA["huggingface"].read(root)


def test_huggingface_keeps_the_recordings_of_each_configuration(tmp_path: Path) -> None:
    """Folders with tables of one name: the recordings of one replaced those of the other."""
    sounds = {word: sound_bytes(word, "FLAC") for word in ("anger", "fear", "joy")}
    for word, sound in sounds.items():
        rows = [{"audio": {"bytes": sound, "path": f"{word}.flac"}, "label": word}]
        rows += [{"audio": None, "label": "joy"}]
        write_parquet(tmp_path / "mine" / word / "train-00000-of-00001.parquet", rows, {})
    corpus = CORPORA["huggingface"].read(tmp_path / "mine")
    kept = {Path(one.id).name: Path(str(one.audio)).read_bytes() for one in corpus.utterances}
    assert kept == sounds
    assert sum("no such file" in line for line in corpus.left_out) == 3  # the rows without a sound


def test_folders_say_parts_and_ask_who_speaks(tmp_path: Path) -> None:
    root = make_folders(tmp_path).root
    corpus = CORPORA["folders"].read(root)
    assert {one.speaker for one in corpus.utterances} == {None}
    assert any("--speaker" in line for line in corpus.left_out)
    assert "note: 'Angry' was read as anger" in corpus.left_out
    told = CORPORA["folders"].read(root, speaker=r"Actor_(\d+)")
    said = {(one.split, one.speaker) for one in told.utterances}
    assert said == {("train", "01"), ("test", "02")}
    for wrong in ("Actor_", "("):
        with pytest.raises(SerError, match="--speaker"):
            CORPORA["folders"].read(root, speaker=wrong)
    count = len(corpus.utterances)
    (root / "loose.wav").write_bytes(b"RIFF")
    moved = next(root.rglob("[!.]*/*.wav"))
    moved.rename(moved.with_suffix(".m4a"))  # every format counts
    corpus = CORPORA["folders"].read(root)
    assert len(corpus.utterances) == count
    assert "note: left out, in no folder: 1 recording, such as loose.wav" in corpus.left_out


def test_folders_of_speakers_are_no_emotions(tmp_path: Path) -> None:
    for place in ("train/wut/Actor_01/a.wav", "freude/Actor_02/a.wav", "Actor_02/angry/b.wav"):
        put(tmp_path / place)
    told = CORPORA["folders"].read(tmp_path, name="own", speaker=r"Actor_(\d+)").utterances
    assert sorted((one.emotion, one.speaker) for one in told) == [
        ("anger", "02"), ("freude", "02"), ("wut", "01"),
    ]  # fmt: skip


def test_kaldi_cuts_segments_and_runs_no_command(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path).root
    corpus = CORPORA["kaldi"].read(root)
    one = row(corpus, "u1")
    assert (one.start, one.end, one.split, one.speaker) == (0.0, 1.5, "train", "ann")
    assert (one.text, one.extra["sex"], row(corpus, "u2").text) == ("made up words", "female", None)
    assert row(corpus, "u3").audio == str(tmp_path / "wavs/short.wav")
    write(root / "dev/wav.scp", f"u3 touch {tmp_path}/pwned |\n")
    with pytest.raises(SerError, match=r"the command 'touch .*write the sound to files"):
        CORPORA["kaldi"].read(root)
    assert not (tmp_path / "pwned").exists()
    write(root / "dev/utt2emotion", "u3 sad\nu3 sad\nu3 hap\n")
    with pytest.raises(SerError, match=r"utt2emotion:3: 'u3' is 'hap' here, but 'sad'"):
        CORPORA["kaldi"].read(root)
    (root / "dev/utt2emotion").unlink()
    with pytest.raises(SerError, match="utt2emo"):
        CORPORA["kaldi"].read(root)


def test_kaldis_emotions_without_a_recording_are_counted(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path).root
    write(root / "train/utt2emo", "u1 ang\nu2 neu\nann-u4 sad\n")
    told = "note: 1 emotion of train without a recording in wav.scp or segments: ann-u4"
    assert told in CORPORA["kaldi"].read(root).left_out


def test_kaldi_folders_that_share_an_utterance_are_named(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path).root
    shutil.copytree(root / "dev", root / "dev_10")
    with pytest.raises(SerError, match=r"dev_10: its utterance 'u3' is also in .*dev; give one of"):
        CORPORA["kaldi"].read(root)


def test_kaldi_segments_to_the_end_and_on_one_channel(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    write(tmp_path / "wav.scp", "r a.wav\n")
    write(tmp_path / "utt2emo", "u1 joy\nu2 fear\n")
    write(tmp_path / "segments", "u1 r 0.0 0.5 1\nu2 r 0.5 -1\n")
    corpus = CORPORA["kaldi"].read(tmp_path, name="k")
    assert [(one.start, one.end) for one in corpus.utterances] == [(0.0, 0.5), (0.5, None)]
    assert "note: 1 segments name a channel; of a recording with several, their mean is read" in (
        corpus.left_out
    )
    for line in ("u1 r 0.0", "u1 r begin end"):
        write(tmp_path / "segments", f"{line}\n")
        with pytest.raises(SerError, match=r"segments: 'u1' is 'r .*start and end in seconds"):
            CORPORA["kaldi"].read(tmp_path)


def test_a_line_of_kaldis_segments_without_a_recording_is_named(tmp_path: Path) -> None:
    root = make_kaldi(tmp_path).root
    path = next(root.rglob("segments"))
    write(path, f"u9\n{path.read_text()}")
    with pytest.raises(SerError, match=r"wav\.scp: has nothing for ''"):
        CORPORA["kaldi"].read(root)


def test_lhotse_cuts_count_from_their_begin(tmp_path: Path) -> None:
    corpus = read("lhotse", tmp_path)
    assert row(corpus, "manifests/a").attributes == {"arousal": 3.5}
    assert (row(corpus, "manifests/c").start, row(corpus, "manifests/c").split) == (None, "test")
    assert (row(corpus, "manifests/b").start, row(corpus, "manifests/b").end) == (1.5, 4.0)
    root = tmp_path / "cuts"
    put(root / "1.wav")
    said = [supervision("a", "r1", 0.5, 1.0, custom={"emotion": "fear"})]
    cut = {"id": "c1", "start": 2.0, "duration": 2.0, "channel": 0, "type": "MonoCut",
           "supervisions": said, "recording": recording("r1", "1.wav")}  # fmt: skip
    with gzip.open(root / "my_cuts_dev.jsonl.gz", "wt") as file:
        file.write(lines_of([cut]))
    (one,) = CORPORA["lhotse"].read(root).utterances
    assert (one.start, one.end, one.split, one.emotion) == (2.5, 3.5, "dev", "fear")


def test_lhotse_says_that_channels_are_mixed(tmp_path: Path) -> None:
    stereo = recording("r1", "1.wav") | {"channel_ids": [0, 1]}
    put(tmp_path / "1.wav")
    write(tmp_path / "own_recordings_train.jsonl", lines_of([stereo]))
    said = [supervision("a", "r1", 0.0, 1.0, channel=1, custom={"emotion": "fear"})]
    write(tmp_path / "own_supervisions_train.jsonl", lines_of(said))
    found = CORPORA["lhotse"].read(tmp_path).left_out
    assert "note: 1 segments are on one channel of several, whose mean is read" in found


def test_lhotse_recordings_that_are_no_files_are_refused(tmp_path: Path) -> None:
    root = make_lhotse(tmp_path).root
    path = root / "own_recordings_test.jsonl"
    path.write_text(path.read_text().replace('"file"', '"command"'))
    with pytest.raises(SerError, match=r"supervision 'c'.*type file"):
        CORPORA["lhotse"].read(root)


def test_lhotse_recordings_of_one_id_are_not_mixed_up(tmp_path: Path) -> None:
    for part in ("train", "test"):
        put(tmp_path / part / "1.wav")
        row = recording("r1", f"{part}/1.wav")
        write(tmp_path / f"own_recordings_{part}.jsonl", lines_of([row]))
        said = [supervision(f"{part}-a", "r1", 0.0, 1.0, custom={"emotion": "fear"})]
        write(tmp_path / f"own_supervisions_{part}.jsonl", lines_of(said))
    with pytest.raises(SerError, match=r"'r1' is .*test/1\.wav.* in another"):
        CORPORA["lhotse"].read(tmp_path)


def test_emobox_rows_fit_the_benchmarks_own_folds(tmp_path: Path) -> None:
    root = make_emobox(tmp_path).root
    corpus = CORPORA["emobox"].read(root)
    assert {one.speaker for one in corpus.utterances} == {"liu", "wang", "zhao"}
    lines = (root / "casia.jsonl").read_text().splitlines()
    for side, rows in (("train", lines[:6]), ("test", lines[6:])):
        write(root / f"fold_1/casia_{side}_fold_1.jsonl", "\n".join(rows) + "\n")
    split = make_split(corpus.utterances, str(root))
    (fold,) = split.folds
    assert {key.split("-")[0] for key in fold.test} == {"casia/zhao"}
    assert split.name == "emobox-casia"  # all of its rows are there


def test_emobox_sends_corpora_with_words_of_their_own_to_their_readers(tmp_path: Path) -> None:
    lines = (make_emobox(tmp_path).root / "casia.jsonl").read_text()
    folder = tmp_path / "data" / "iemocap"
    write(folder / "iemocap.jsonl", lines.replace('"casia"', '"iemocap"'))
    with pytest.raises(SerError, match="ser manifest iemocap"):
        CORPORA["emobox"].read(folder)


def test_manifest_takes_the_options_of_each_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folders(tmp_path).root
    out = tmp_path / "m.jsonl"

    def manifest(corpus: str, folder: Path, *more: str) -> int:
        return main(["manifest", corpus, "--root", str(folder), "--out", str(out), *more])

    assert manifest("folders", root, "--speaker", r"Actor_(\d+)") == 0
    rows = [json.loads(one) for one in out.read_text().splitlines()]
    assert {one["speaker"] for one in rows} == {"01", "02"}
    shutil.rmtree(root)
    assert manifest("emodb", tmp_path, "--speaker", "a") == 1
    assert "--speaker is not an option of emodb" in capsys.readouterr().err
    assert manifest("msp-improv", make_msp_improv(tmp_path / "improv").root) == 0
    assert manifest("resd", make_resd(tmp_path / "resd").root, "--audio-dir", "here") == 0
    assert (tmp_path / "resd/here/train").is_dir()


TABLES = (".csv", ".txt", ".json", ".jsonl", ".gz", ".yaml", ".scp", ".parquet", ".stm", ".py", "")
DAMAGES = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "letters for digits": lambda raw: re.sub(rb"\d", b"x", raw),
    "other columns": lambda raw: raw[:20].replace(b"e", b"o") + raw[20:],
    "no separators": lambda raw: re.sub(rb"[,;:\t]|___", b" ", raw),
}


@pytest.mark.parametrize("name", [*sorted(MAKERS.keys() - NAMED), *LAYOUTS, *FORMAT_MAKERS])
def test_damaged_tables_are_errors_that_say_so(name: str, tmp_path: Path) -> None:
    root = {**MAKERS, **LAYOUTS, **FORMAT_MAKERS}[name](tmp_path).root
    tables = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in TABLES]
    told = 0
    for path in tables:
        whole = path.read_bytes()
        for damage in DAMAGES.values():
            path.write_bytes(damage(whole))
            told += 1
            with suppress(SerError):  # anything else is a fault of the reader
                told -= not CORPORA[name].read(root, **OPTIONS.get(name, {})).left_out
        path.write_bytes(whole)
    assert told or name in ("emodb", "ravdess", "folders")  # which need no table
