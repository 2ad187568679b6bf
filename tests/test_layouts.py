"""What each reader gives besides emotions, and what it refuses."""

import runpy
from itertools import islice, product
from pathlib import Path

import pytest
import soundfile

from made_corpora import put
from made_formats import write, write_audformat
from made_layouts import LAYOUTS, make_cmu_mosei, make_emodb2
from multimodal_ser.cli import main
from multimodal_ser.corpora import CORPORA, Corpus, Utterance, emodb
from multimodal_ser.encoders.exposure import claim_about, published, stated
from multimodal_ser.errors import SerError
from multimodal_ser.splits import make_split

ROOT = Path(__file__).parents[1]


def read(name: str, root: Path) -> Corpus:
    return CORPORA[name].read(LAYOUTS[name](root).root)


def row(corpus: Corpus, own_id: str) -> Utterance:
    return next(one for one in corpus.utterances if one.id.endswith(own_id))


def test_msp_improv_tells_means_raters_and_what_was_meant(tmp_path: Path) -> None:
    one = row(read("msp-improv", tmp_path), "S02A-F01-R-FM01")
    assert (one.emotion, one.extra["intended"]) == ("happiness", "anger")
    # A:2.5 on a scale from very active to very passive; NaN is no value
    assert one.attributes == {"arousal": 3.5, "valence": 4.0}
    assert one.extra["raters"]["PS2_1"]["arousal"] == 4.0
    assert one.votes == {"anger": 1, "neutral": 1}  # the copied rater counts once
    assert one.extra["raters"]["PS1_1"]["second"] == ["anger", "frustration"]
    assert (one.speaker, one.session, one.extra["sex"]) == ("F01", "01", "female")
    put(tmp_path / "session1/S01A/P/MSP-IMPROV-S01A-M01-P-FM09.wav")
    (tmp_path / "Evalution.txt").rename(tmp_path / "Evaluation.txt")
    assert CORPORA["msp-improv"].read(tmp_path).left_out == [
        "msp-improv/S01A-M01-P-FM09: no row in Evaluation.txt"
    ]


def test_emozionalmente_tells_people_words_and_votes(tmp_path: Path) -> None:
    one = row(read("emozionalmente", tmp_path), "ada_neutrality")
    assert one.votes == {"neutral": 3, "happiness": 1, "fear": 1}
    assert (one.text, one.extra["sex"], one.extra["age"]) == ("Una frase, inventata.", "female", 31)
    assert one.split is None
    write(tmp_path / "metadata/split/val.csv", "file_name\nada_joy.wav\n")
    corpus = CORPORA["emozionalmente"].read(tmp_path)
    assert [row.id for row in corpus.utterances if row.split == "dev"] == ["emozionalmente/ada_joy"]
    samples = tmp_path / "metadata/samples.csv"
    samples.write_text(samples.read_text() + samples.read_text().splitlines()[1] + "\n")
    again = CORPORA["emozionalmente"].read(tmp_path)
    assert (again.utterances, again.left_out) == (
        corpus.utterances, ["emozionalmente/ada_anger: the same again"],
    )  # fmt: skip


def test_cmu_mosei_is_cut_from_its_videos_with_the_means_of_raters(tmp_path: Path) -> None:
    corpus = read("cmu-mosei", tmp_path)
    one = row(corpus, "aaa_1_3")
    assert (one.emotion, one.start, one.end, one.split) == ("happiness", 2.5, 4.5, "train")
    assert one.extra["intensities"] == dict.fromkeys(("anger", "disgust", "fear"), 0.0) | {
        "happiness": 2.0, "sadness": 0.0, "surprise": 0.0,
    }  # fmt: skip
    assert one.votes == {"happiness": 3}
    assert one.extra["sentiment"] == 0.0
    assert row(corpus, "bbb_7").votes == {"anger": 1.5, "fear": 1.5}
    assert row(corpus, "12345_0").start == 0.0  # it is -0.5 in the table
    assert {u.split for u in corpus.utterances} == {"train", "dev", "test"}
    (tmp_path / "cmu_mosei_std_folds.py").unlink()
    bare = CORPORA["cmu-mosei"].read(tmp_path / "Raw")
    assert {u.split for u in bare.utterances} == {None}
    assert "cmu_mosei_std_folds.py" in bare.left_out[0]


def test_nothing_of_a_file_of_parts_is_run(tmp_path: Path) -> None:
    root = make_cmu_mosei(tmp_path).root
    write(root / "cmu_mosei_std_folds.py", "standard_train_fold = [str(open('pwned', 'w'))]\n")
    with pytest.raises(SerError, match="no lists of videos"):
        CORPORA["cmu-mosei"].read(root)
    assert not Path("pwned").exists()


def test_resd_keeps_dialogues_and_writes_sound_once(tmp_path: Path) -> None:
    corpus = read("resd", tmp_path)
    one = row(corpus, "32_anger_fear_a_0")
    assert (one.split, one.dialogue, one.emotion) == ("train", "32_anger_fear", "anger")
    path = Path(one.audio or "")
    assert path.parent == tmp_path / "recordings" / "train"
    assert soundfile.info(path).frames == 1600
    before = path.stat().st_mtime_ns
    CORPORA["resd"].read(tmp_path)
    assert path.stat().st_mtime_ns == before
    for table in (tmp_path / "data").iterdir():
        table.unlink()
    for part in ("train", "test"):
        put(tmp_path / part / "anger_fear_3/3_anger_fear_a_0.wav")
        line = "x,anger_fear_3/3_anger_fear_a_0.wav,anger\n"
        write(tmp_path / f"{part}.csv", "name,path,emotion\n" + line)
    assert [u.id for u in CORPORA["resd"].read(tmp_path).utterances] == [
        "resd/test/3_anger_fear_a_0", "resd/train/3_anger_fear_a_0",
    ]  # fmt: skip


def test_official_parts_without_dev_hold_whole_groups_out_of_train(tmp_path: Path) -> None:
    (fold,) = make_split(read("resd", tmp_path).utterances, "official").folds
    assert {key.split("/")[1] for key in fold.test} == {"test"}
    assert fold.validation
    assert {key.split("/")[1] for key in (*fold.train, *fold.validation)} == {"train"}


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_emodb2_tells_the_ambiguous_and_leaves_the_larynx_out(tmp_path: Path, storage: str) -> None:
    root = make_emodb2(tmp_path).root
    people = {3: {"gender": "male", "age": 31}}
    rows = [(f"wav/03a01{e}.wav", 3, "anger", share) for e, share in (("Wa", 0.97), ("Wb", 0.2))]
    if storage == "parquet":
        for old in root.glob("db.*"):
            old.unlink()
        write_audformat(root, "emodb", rows, people, storage)
    corpus = CORPORA["emodb2"].read(root)
    sure, unsure = row(corpus, "03a01Wa"), row(corpus, "03a01Wb")
    assert (sure.speaker, sure.split, sure.text) == ("03", "train", "Erfundene Worte.")
    assert (sure.extra["sex"], str(sure.extra["age"])) == ("male", "31")
    assert "ambiguous" not in sure.extra
    assert (unsure.extra["ambiguous"], unsure.split) == (True, None)
    assert float(unsure.extra["recognised"]) < 0.8
    assert not any("laryngo" in str(one.audio) for one in corpus.utterances)


def test_an_encoder_that_saw_emodb_saw_most_of_emodb2() -> None:
    saw = published("emotion2vec-plus-seed").corpora
    assert claim_about("emodb2", saw) == saw["emodb"]
    assert saw["emodb"].saw == "labels"
    said = stated(["emodb=labels", "*=no"]).corpora
    assert [claim_about(name, said).saw for name in ("emodb2", "cremad")] == ["labels", "no"]
    assert claim_about("emodb2", {}) is None


def test_more_recordings_than_emodb_has_are_said(tmp_path: Path) -> None:
    names = product(emodb.EMODB_SPEAKERS, emodb.EMODB_SENTENCES, "WLEAFTN")
    for speaker, sentence, letter in islice(names, emodb.PUBLISHED + 1):
        put(tmp_path / "wav" / f"{speaker}{sentence}{letter}a.wav")
    read = CORPORA["emodb"].read(tmp_path)
    assert len(read.utterances) > 535
    assert "emodb2" in read.left_out[-1]


def test_asvp_esd_tells_speech_from_cries(tmp_path: Path) -> None:
    for name in ("03-01-05-01-01-01-02-03-00.wav", "03-02-13-02-07-12-01-02_66.wav"):
        put(tmp_path / name)
    channels = [one.extra["channel"] for one in CORPORA["asvp-esd"].read(tmp_path).utterances]
    assert sorted(channels) == ["01", "02"]


def test_ser_list_tells_classes_speakers_licence_citation_and_traps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for info in CORPORA.values():
        assert info.licence in said
        assert info.cited in said
    assert "12 speakers; anger happiness neutral sadness; Busso and others, 2017" in said
    assert main(["list", "msp-improv"]) == 0
    said = capsys.readouterr().out
    for part in ("classes: anger", "speakers: 12", "1 to 5", "@article{busso2017", "UTD-IMPROV"):
        assert part in said
    assert main(["list", "nothing"]) == 1
    assert "cremad" in capsys.readouterr().err


def test_esd_parts_are_those_of_its_folders(tmp_path: Path) -> None:
    for path in ("0011/Sad/evaluation/0011_001051.wav", "0011/Sad/train/0011_001101.wav"):
        put(tmp_path / path)
    put(tmp_path / "0012/Sad/0012_001101.wav")
    rows = CORPORA["esd"].read(tmp_path).utterances
    assert [(one.id, one.split) for one in rows] == [
        ("esd/Sad_0011_001051", "dev"), ("esd/Sad_0011_001101", "train"),
        ("esd/Sad_0012_001101", None),
    ]  # fmt: skip


def test_the_page_of_corpora_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "corpora_page.py"))
    page = (ROOT / "docs" / "corpora.md").read_text("utf-8")
    assert script["page"](page) == page, "run: python scripts/corpora_page.py"
