"""Every corpus in CORPORA on a made-up folder, the counts of the field, and the real data."""

import csv
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import made_corpora
from made_formats import FORMAT_MAKERS, OPTIONS
from made_layouts import LAYOUTS
from multimodal_ser.corpora import (
    CORPORA,
    GENERAL_READERS,
    Corpus,
    Utterance,
    read_manifest,
    write_manifest,
)
from multimodal_ser.corpora.base import NOTE
from multimodal_ser.corpora.labels import BUILT_IN_CORPORA, CLASS_SETS, class_set
from multimodal_ser.corpora.summary import CorpusRow, summarise_corpus
from multimodal_ser.errors import SerError

ALL = {**made_corpora.MAKERS, **LAYOUTS, **FORMAT_MAKERS}
UNTOLD = {"mesd", "msp-podcast", "cmu-mosei", "resd"}  # which do not tell of everyone who speaks
CUT = {"cmu-mosei", "audformat", "kaldi", "lhotse"}  # of which recordings hold several utterances
DATA = Path(__file__).parents[2] / "shared" / "data"
FOLD_WORDS = {
    "cremad": dict(
        zip(
            ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad"),
            made_corpora.CREMAD_EMOTIONS,
            strict=True,
        )
    ),
    "meld": dict(
        zip(
            ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"),
            made_corpora.MELD_EMOTIONS,
            strict=True,
        )
    ),
}


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the development data {name}, which is not beside this checkout")
    return path


def fold(name: str) -> list[dict[str, str]]:
    with real(f"folds/{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def classes(corpus: Corpus, labels: str) -> dict[str, int]:
    rows = summarise_corpus(corpus, CLASS_SETS[labels])
    return {row.name: row.total for row in rows if row.part == "class" and row.name != "(none)"}


def made(corpus: str, root: Path) -> tuple[Corpus, made_corpora.Made]:
    built = ALL[corpus](root)
    return CORPORA[corpus].read(built.root, **OPTIONS.get(corpus, {})), built


def test_every_corpus_is_there() -> None:
    assert set(CORPORA) == set(ALL)
    assert set(CORPORA) >= BUILT_IN_CORPORA | set(GENERAL_READERS)


@pytest.mark.parametrize("name", CORPORA)
def test_reads_its_official_layout(name: str, tmp_path: Path) -> None:
    corpus, built = made(name, tmp_path)
    assert {row.id: row.emotion for row in corpus.utterances} == built.emotions
    ids = [row.id for row in corpus.utterances]
    assert ids == sorted(set(ids))
    assert [line for line in corpus.left_out if not line.startswith(NOTE)] == []
    assert name in GENERAL_READERS or corpus.left_out == []
    for row in corpus.utterances:
        assert row.id.startswith(f"{row.corpus}/")
        assert row.speaker or name in UNTOLD
        assert (row.start, row.end) == (None, None) or name in CUT
        assert row.audio is not None
        assert Path(row.audio).is_file()


@pytest.mark.parametrize("name", CORPORA)
def test_reads_a_relative_folder_alike(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, built = made(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    root = built.root.relative_to(tmp_path)
    again = CORPORA[name].read(root, **OPTIONS.get(name, {}))
    assert {row.id for row in again.utterances} == set(built.emotions)
    for row, one in zip(again.utterances, corpus.utterances, strict=True):
        assert Path(str(row.audio)).resolve() == Path(str(one.audio))


@pytest.mark.parametrize("name", CORPORA)
def test_survives_its_manifest(name: str, tmp_path: Path) -> None:
    corpus, _ = made(name, tmp_path / "corpus")
    write_manifest(corpus.utterances, tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path / "manifest.jsonl") == corpus.utterances


def marked(path: Path) -> None:
    """As a file looks after Windows, and on a disk of macOS."""
    if path.suffix in (".csv", ".jsonl", ".txt") or path.parent.name == "kaldi":
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
        path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*lines, b"", b""]))
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    path.with_name("Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


@pytest.mark.parametrize("name", CORPORA)
def test_reads_it_alike_after_windows_and_macos(name: str, tmp_path: Path) -> None:
    corpus, built = made(name, tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        marked(path)
    assert CORPORA[name].read(built.root, **OPTIONS.get(name, {})) == corpus


CONVERTED = ("msp-podcast", "msp-improv", "emozionalmente", "kaldi")


@pytest.mark.parametrize(
    ("name", "converted"),
    [*((name, False) for name in CORPORA), *((name, True) for name in CONVERTED)],
)
def test_reads_recordings_with_other_endings(name: str, converted: bool, tmp_path: Path) -> None:
    corpus, built = made(name, tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.suffix in (".wav", ".mp4", ".m4a")]:
        path.rename(path.with_suffix(".flac" if converted else path.suffix.upper()))
    again = CORPORA[name].read(built.root, **OPTIONS.get(name, {}))
    for row, other in zip(corpus.utterances, again.utterances, strict=True):
        assert Path(str(other.audio)).is_file()
        assert replace(other, audio=row.audio) == row


@pytest.mark.parametrize("name", sorted(CORPORA.keys() - {*GENERAL_READERS}))
def test_has_a_licence_and_covers_its_classes(name: str, tmp_path: Path) -> None:
    info = CORPORA[name]
    assert info.name == name
    assert info.licence
    assert info.description
    assert info.url.startswith("http")
    for part in ("@", "author", "title", "year"):
        assert part in info.citation
    assert re.fullmatch(r"[^,{}]+( and others)?, (19|20)\d\d", info.cited)
    assert info.traps
    words = {row.emotion for row in made(name, tmp_path)[0].utterances}
    assert info.labels is not None
    if name in BUILT_IN_CORPORA:
        for labels in (info.labels, "common4"):
            CLASS_SETS[labels].check_covers(name, words)
    elif name in LAYOUTS or name == "msp-podcast":
        class_set(info.labels).check_covers(name, words)
    else:  # of these a few recordings are made
        assert words <= set(class_set(info.labels).classes)


@pytest.mark.parametrize("name", CORPORA)
def test_a_missing_or_empty_root_is_an_error(name: str, tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SerError, match=str(tmp_path)):
            CORPORA[name].read(root)


def test_importing_the_corpora_is_light() -> None:
    code = "import sys, multimodal_ser.corpora as c; print({'torch', 'soundfile'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_iemocap_has_the_counts_of_the_field(tmp_path: Path) -> None:
    named = {"ang": 1103, "hap": 595, "exc": 1041, "neu": 1708, "sad": 1084, "fru": 1849}
    rest = {"sur": 107, "fea": 40, "dis": 2, "oth": 3, "xxx": 10_039 - sum(named.values()) - 152}
    made_corpora.make_iemocap(tmp_path, made_corpora.iemocap_rows({**named, **rest}))
    corpus = CORPORA["iemocap"].read(tmp_path)
    assert len(corpus.utterances) == 10_039
    assert corpus.left_out == []
    assert len({row.speaker for row in corpus.utterances}) == 10
    four = {"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084}
    assert classes(corpus, "iemocap4") == four
    for labels, size in (("iemocap4", 5531), ("iemocap4-hap", 4490), ("iemocap6", 7380)):
        assert sum(classes(corpus, labels).values()) == size


def test_iemocap_ids_of_the_benchmark_are_read(tmp_path: Path) -> None:
    words = {"Angry": "ang", "Happy": "hap", "Neutral": "neu", "Sad": "sad"}
    rows = fold("iemocap")
    made_corpora.make_iemocap(tmp_path, [(row["utterance"], words[row["emotion"]]) for row in rows])
    read = {row.id: row for row in CORPORA["iemocap"].read(tmp_path).utterances}
    assert len(read) == 5531
    for row in rows:
        assert read[f"iemocap/{row['utterance']}"].session == f"Ses0{row['fold'][-1]}"


def official_cremad_names() -> list[str]:
    path = DATA / "cremad" / "SentenceFilenames.csv"
    if not path.exists():
        return made_corpora.cremad_names()
    with path.open(newline="") as file:
        return [row["Filename"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("names", [made_corpora.cremad_names, official_cremad_names])
def test_cremad_has_the_counts_of_the_field(names: Callable[[], list[str]], tmp_path: Path) -> None:
    made_corpora.make_cremad(tmp_path, names())
    corpus = CORPORA["cremad"].read(tmp_path)
    assert len({row.speaker for row in corpus.utterances}) == 91
    # 7,442 clips, 4,900 of them in four classes; the silent one is named, not used.
    (silent,) = corpus.left_out
    assert silent.startswith("cremad/1076_MTI_SAD_XX: silent")
    four = {"anger": 1271, "happiness": 1271, "neutral": 1087, "sadness": 1271 - 1}
    assert classes(corpus, "cremad4") == four
    assert sum(four.values()) == 4900 - 1
    assert sum(classes(corpus, "cremad6").values()) == len(corpus.utterances) == 7442 - 1


def test_cremad_labels_agree_with_the_benchmark() -> None:
    corpus = CORPORA["cremad"].read(real("cremad"), audio_dir="AudioRebuilt")
    read = {row.id: row.emotion for row in corpus.utterances}
    rows = {f"cremad/{row['utterance']}": row["emotion"] for row in fold("cremad")}
    assert len(rows) == 7442
    assert len(read) == 7431
    assert read == {key: FOLD_WORDS["cremad"][rows[key]] for key in read}
    assert all(row.extra["audio"] == "rebuilt" for row in corpus.utterances)


def test_cremad_genuine_recordings() -> None:
    corpus = CORPORA["cremad"].read(real("cremad"))
    assert len(corpus.utterances) == 31
    assert not any("audio" in row.extra for row in corpus.utterances)


def test_meld_rows_and_labels_agree_with_the_benchmark() -> None:
    corpus = CORPORA["meld"].read(real("meld"))
    splits = Counter(row.split for row in corpus.utterances)
    assert splits == {"train": 9989, "dev": 1109, "test": 2610}
    read = {row.id: row for row in corpus.utterances}
    rows = fold("meld")
    assert len(rows) == 13_706
    for row in rows:
        split, _, clip = row["utterance"].replace("valid/", "dev/").partition("/")
        utterance = read.pop(f"meld/{split}/{clip}")
        assert utterance.emotion == FOLD_WORDS["meld"][row["emotion"]]
        assert utterance.split == row["fold"].replace("valid", "dev")
    assert set(read) == {"meld/train/dia125_utt3", "meld/dev/dia110_utt7"}


def test_emodb_complete() -> None:
    corpus = CORPORA["emodb"].read(real("emodb"))
    assert len(corpus.utterances) == 535
    assert len({row.speaker for row in corpus.utterances}) == 10
    assert len({row.text for row in corpus.utterances}) == 10
    assert corpus.left_out == []
    # The published recordings are those that 80 % of the listeners recognised.
    assert all(row.extra["recognised"] >= 80 for row in corpus.utterances)
    anger_to_sadness = [127, 81, 46, 69, 71, 79, 62]
    assert list(classes(corpus, "emodb7").values()) == anger_to_sadness


def test_summary_counts_by_word_class_split_speaker_and_reason(tmp_path: Path) -> None:
    made_corpora.make_meld(tmp_path, dialogues=1)
    (tmp_path / "train_splits" / "dia0_utt0.mp4").unlink()
    shutil.rmtree(tmp_path / "dev_splits_complete")
    rows = summarise_corpus(CORPORA["meld"].read(tmp_path), CLASS_SETS["meld4"])
    assert rows[0] == CorpusRow("all", "utterances", 20)
    for expected in (
        CorpusRow("emotion", "anger", 2),
        CorpusRow("class", "happiness", 3),
        CorpusRow("class", "(none)", 9),
        CorpusRow("split", "train", 6),
        CorpusRow("speaker", "Person 0", 2),
        CorpusRow("left out", "no such clip: meld/train/dia0_utt0", 1),
        CorpusRow("note", "no clips in dev_splits_complete: only the words of dev are kept", 1),
    ):
        assert expected in rows


def test_summary_shows_a_class_that_no_utterance_has() -> None:
    rows = summarise_corpus(Corpus([Utterance("cremad/a", "cremad", "ANG")]), CLASS_SETS["cremad4"])
    assert CorpusRow("class", "sadness", 0) in rows


def test_a_name_tells_speaker_sex_age_and_words(tmp_path: Path) -> None:
    cafe = {row.id: row for row in made("cafe", tmp_path / "cafe")[0].utterances}
    one = cafe["cafe/12_N_1_6"]
    assert (one.speaker, one.extra["sex"], one.extra["age"]) == ("12", "female", 37)
    assert one.text == "Six ours aimants domestiqués"
    tess = {row.id: row for row in made("tess", tmp_path / "tess")[0].utterances}
    assert {row.speaker for row in tess.values()} == {"OAF", "YAF"}  # a file says OA
    subesco = made("subesco", tmp_path / "subesco")[0].utterances
    assert {(row.speaker, row.extra["sex"]) for row in subesco} == {
        ("F_01", "female"),
        ("M_10", "male"),
    }


def test_what_a_corpus_does_not_name_so_is_listed(tmp_path: Path) -> None:
    built = made_corpora.MAKERS["tess"](tmp_path)
    for name in ("OAF_back_bored.wav", "holiday.wav"):
        (built.root / name).write_bytes(b"made up")
    (built.root / "YAF_back_sad.wav").write_bytes(b"")
    corpus = CORPORA["tess"].read(built.root)
    assert {row.id for row in corpus.utterances} == set(built.emotions)
    assert [line.split(":")[0] for line in corpus.left_out] == [
        "tess/OAF_back_bored.wav",
        "tess/YAF_back_sad.wav",
        "tess/holiday.wav",
    ]
    assert "'bored'" in corpus.left_out[0]


def test_one_folder_of_a_corpus_is_read_too(tmp_path: Path) -> None:
    built = made_corpora.MAKERS["turev-db"](tmp_path)
    corpus = CORPORA["turev-db"].read(built.root / "Sound Source" / "Angry")
    assert [row.emotion for row in corpus.utterances] == ["anger"]


def test_msp_podcast_tells_attributes_parts_and_words(tmp_path: Path) -> None:
    rows = made("msp-podcast", tmp_path)[0].utterances
    assert rows[0].text == "Made up words."
    assert rows[0].attributes == {"arousal": 2.5, "valence": 3.0, "dominance": 4.2}
    assert {row.split for row in rows} == {"train", "dev", "test"}
    table = tmp_path / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace("Test1", "Test2"))
    corpus = CORPORA["msp-podcast"].read(tmp_path)
    assert {row.split for row in corpus.utterances} == {"train", "dev"}
    assert all("Test2" in line for line in corpus.left_out)
    # the third test part has no public labels
    lines = [",".join(table.read_text().splitlines()[1].split(",")[:1]) + "," * 6 + ",Test3"]
    table.write_text("\n".join([*table.read_text().splitlines(), *lines]))
    assert CORPORA["msp-podcast"].read(tmp_path).utterances == corpus.utterances


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(SerError, match="holds no utterances"):
        read_manifest(tmp_path / "m.jsonl")
