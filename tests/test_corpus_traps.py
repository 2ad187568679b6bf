"""One test for each known trap of a corpus."""

from pathlib import Path

import pytest

from made_corpora import (
    LFS_POINTER,
    MAKERS,
    make_cremad,
    make_emodb,
    make_iemocap,
    make_meld,
    make_ravdess,
    make_tallies,
    meld_row,
    put,
    write_meld_table,
)
from made_layouts import LAYOUTS
from multimodal_ser.common.spelling import alike
from multimodal_ser.corpora import CORPORA, Utterance
from multimodal_ser.corpora.base import decode_text
from multimodal_ser.errors import SerError


def by_id(corpus: str, root: Path, **options: str) -> dict[str, Utterance]:
    return {row.id: row for row in CORPORA[corpus].read(root, **options).utterances}


@pytest.mark.parametrize("corpus", ["iemocap", "cremad", "meld", "emodb", "ravdess"])
def test_macos_companions_are_ignored(corpus: str, tmp_path: Path) -> None:
    built = MAKERS[corpus](tmp_path)
    for path in [path for path in tmp_path.rglob("*.*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xb0\xff")
    read = CORPORA[corpus].read(tmp_path)
    assert {row.id for row in read.utterances} == set(built.emotions)
    assert read.left_out == []


@pytest.mark.parametrize(
    "corpus",
    [
        "iemocap",
        "cremad",
        "meld",
        "emodb",
        "ravdess",
        "msp-podcast",
        *sorted(LAYOUTS.keys() - {"resd"}),
    ],
)
def test_archives_that_unpack_a_folder_deeper(corpus: str, tmp_path: Path) -> None:
    make = (MAKERS | LAYOUTS)[corpus]
    built = make(tmp_path / "release")
    put(tmp_path / "archives" / "part.zip")
    read = CORPORA[corpus].read(tmp_path)
    assert {row.id: row.emotion for row in read.utterances} == built.emotions
    if corpus != "ravdess":  # which is searched at any depth, and lists second copies
        make(tmp_path / "again")
        with pytest.raises(SerError, match=r"several folders .*: again, release; give one"):
            CORPORA[corpus].read(tmp_path)


@pytest.mark.parametrize("ending", [".WAV", ".flac"])
@pytest.mark.parametrize("corpus", ["iemocap", "cremad", "meld", "emodb", "ravdess"])
def test_recordings_of_other_endings_are_read(corpus: str, ending: str, tmp_path: Path) -> None:
    built = MAKERS[corpus](tmp_path)
    for path in [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.mp4")]:
        path.rename(path.with_suffix(ending))
    read = CORPORA[corpus].read(tmp_path)
    assert {row.id: row.emotion for row in read.utterances} == built.emotions
    assert {Path(str(row.audio)).suffix for row in read.utterances} == {ending}


@pytest.mark.parametrize("corpus", ["iemocap", "cremad", "meld", "emodb", "ravdess", "table"])
def test_one_pointer_and_one_empty_file_are_left_out(corpus: str, tmp_path: Path) -> None:
    built = MAKERS[corpus](tmp_path)
    first, second = CORPORA[corpus].read(built.root).utterances[:2]
    Path(first.audio or "").write_text(LFS_POINTER)
    Path(second.audio or "").write_bytes(b"")
    read = CORPORA[corpus].read(built.root)
    assert len(read.utterances) == len(built.emotions) - 2
    assert first.id in read.left_out[0]
    assert "git lfs pull" in read.left_out[0]
    assert second.id in read.left_out[1]
    assert "empty file" in read.left_out[1]


@pytest.mark.parametrize("corpus", ["cremad", "emodb", "ravdess", "iemocap", "meld"])
def test_pointers_alone_are_an_error_with_the_remedy(corpus: str, tmp_path: Path) -> None:
    built = MAKERS[corpus](tmp_path)
    for row in CORPORA[corpus].read(tmp_path).utterances:
        Path(row.audio or "").write_text(LFS_POINTER)
    with pytest.raises(SerError, match=f"all {len(built.emotions)} .*git lfs pull"):
        CORPORA[corpus].read(tmp_path)


IMPRO = "Session1/dialog/transcriptions/Ses01F_impro01.txt"


def test_iemocap_words_carry_no_time_stamps(tmp_path: Path) -> None:
    ids = [f"Ses01F_impro01_{turn}" for turn in ("F000", "M000", "F001", "M001", "F002", "M002")]
    make_iemocap(tmp_path, [(own_id, "neu") for own_id in ids])
    (tmp_path / IMPRO).write_bytes(
        b"Ses01F_impro01_F000 [006.2901-008.2357]: Made up: one.\r\n"
        b"M: (a line without id)\r\n"
        b"Ses01F_impro01_M000 [007.5712 - 010.4750] : [LAUGHTER] two.\r\n"
        b"Ses01F_impro01_MXX0 [008.0000-009.0000]: not rated.\r\n"
        b"Ses01F_impro01_F001: It\x92s three.\r\n"
        b"Ses01F_impro01_M001 [010.9266-014.6649]:\r\n"
        b"   Ses01F_impro01_F002 [015.0-016.0]: four\r\n\r\n"
        b"Ses01F_impro01_F002 [015.0-016.0]: four, once more\r\n"
    )
    read = by_id("iemocap", tmp_path)
    texts = [read[f"iemocap/{own_id}"].text for own_id in ids]
    assert CORPORA["iemocap"].read(tmp_path).left_out[-1].startswith("note: 2 utterances have")
    assert texts == ["Made up: one.", "[LAUGHTER] two.", "It’s three.", None, "four", None]


def test_iemocap_speaker_is_named_by_the_turn_not_by_the_dialogue(tmp_path: Path) -> None:
    ids = ["Ses03F_impro01_M004", "Ses03M_script02_1_F011", "Ses04M_script01_3_M000"]
    make_iemocap(tmp_path, [(own_id, "ang") for own_id in ids])
    read = by_id("iemocap", tmp_path)
    rows = [read[f"iemocap/{own_id}"] for own_id in ids]
    assert [row.speaker for row in rows] == ["Ses03M", "Ses03F", "Ses04M"]
    assert [row.session for row in rows] == ["Ses03", "Ses03", "Ses04"]
    assert rows[1].dialogue == "Ses03M_script02_1"


def test_iemocap_times_are_the_dialogues_and_never_cut(tmp_path: Path) -> None:
    make_iemocap(tmp_path, [("Ses01F_impro01_F000", "xxx")])
    (row,) = by_id("iemocap", tmp_path).values()
    assert (row.start, row.end) == (None, None)
    assert row.attributes == {"valence": 2.5, "arousal": 3.0, "dominance": 3.5}
    assert (row.extra["dialogue_start"], row.extra["dialogue_end"]) == (0.0, 0.9)


def test_iemocap_says_what_is_missing(tmp_path: Path) -> None:
    make_iemocap(
        tmp_path / "IEMOCAP_full_release", [(f"Ses0{n}F_impro01_F000", "neu") for n in (1, 2)]
    )
    release = tmp_path / "IEMOCAP_full_release"
    wavs = release / "Session2" / "sentences" / "wav" / "Ses02F_impro01"
    (wavs / "Ses02F_impro01_F000.wav").rename(wavs / "Ses02F_impro01_F009.wav")
    with (release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").open("a") as file:
        file.write("[1.0 - 2.0]\tbroken line\n")
    read = CORPORA["iemocap"].read(tmp_path)
    assert [row.id for row in read.utterances] == ["iemocap/Ses01F_impro01_F000"]
    assert read.left_out == [
        "Ses01F_impro01.txt:7: not of the shape [time] id label [v, a, d]",
        "iemocap/Ses02F_impro01_F000: no such file",
        "iemocap/Ses02F_impro01_F009: no label in EmoEvaluation",
        "Session3: no such folder",
        "Session4: no such folder",
        "Session5: no such folder",
    ]


def test_cremad_misspelt_and_silent_and_foreign_names(tmp_path: Path) -> None:
    make_cremad(tmp_path, ["1040_ITH_SAD_X", "1076_MTI_SAD_XX"], votes={"1040_ITH_SAD_X": "N"})
    for other in ("1001_ABC_SAD_XX", "1001_DFA_SAD_XX (1)", "1001_DFA_SAD_XY"):
        put(tmp_path / "AudioWAV" / f"{other}.wav")
    read = CORPORA["cremad"].read(tmp_path)
    (row,) = read.utterances
    assert row.id == "cremad/1040_ITH_SAD_XX"
    assert str(row.audio).endswith("1040_ITH_SAD_X.wav")
    assert row.text == "I think I have a doctor's appointment"
    assert row.extra["level"] == "XX"
    assert row.extra["voice_vote"] == "N"
    assert read.left_out == [
        "cremad/1001_ABC_SAD_XX: not named ACTOR_SENTENCE_EMOTION_LEVEL",
        "cremad/1001_DFA_SAD_XX (1): not named ACTOR_SENTENCE_EMOTION_LEVEL",
        "cremad/1001_DFA_SAD_XY: not named ACTOR_SENTENCE_EMOTION_LEVEL",
        "cremad/1076_MTI_SAD_XX: silent in the corpus's own release",
    ]


def test_cremad_votes_of_the_listeners(tmp_path: Path) -> None:
    names = ["1001_DFA_ANG_XX", "1001_DFA_SAD_XX", "1001_DFA_HAP_XX"]
    made = make_cremad(tmp_path, names, votes={names[0]: "A:D", names[1]: "N"})
    assert {key: row.emotion for key, row in by_id("cremad", tmp_path).items()} == made.emotions
    put(tmp_path / "AudioWAV" / "1001_TIE_ANG_XX.wav")
    read = CORPORA["cremad"].read(tmp_path, votes="voice")
    words = {row.id: (row.emotion, row.extra["intended"]) for row in read.utterances}
    assert words == {f"cremad/{names[1]}": ("NEU", "SAD"), f"cremad/{names[2]}": ("HAP", "HAP")}
    assert {row.extra["label"] for row in read.utterances} == {"voice votes"}
    assert read.left_out == [
        "cremad/1001_DFA_ANG_XX (A:D): the votes tie",
        "cremad/1001_TIE_ANG_XX: no votes in summaryTable.csv",
    ]
    (tmp_path / "summaryTable.csv").unlink()
    with pytest.raises(SerError, match=r"summaryTable\.csv"):
        CORPORA["cremad"].read(tmp_path, votes="voice")
    with pytest.raises(SerError, match="intended, voice"):
        CORPORA["cremad"].read(tmp_path, votes="face")


def test_cremad_other_folders_and_suffixes(tmp_path: Path) -> None:
    make_cremad(tmp_path, ["1001_DFA_ANG_XX"], audio_dir="AudioRebuilt", suffix=".ogg")
    (row,) = by_id("cremad", tmp_path, audio_dir="AudioRebuilt").values()
    assert row.extra["audio"] == "rebuilt"
    assert row.extra["sex"] == "female"
    assert row.extra["age"] == 21
    with pytest.raises(SerError, match="AudioRebuilt"):
        CORPORA["cremad"].read(tmp_path)


def test_cremad_lists_clips_that_only_the_table_knows(tmp_path: Path) -> None:
    made = make_cremad(tmp_path)
    (tmp_path / "AudioWAV" / "1003_DFA_FEA_XX.wav").unlink()
    read = CORPORA["cremad"].read(tmp_path)
    assert len(read.utterances) == len(made.emotions) - 1
    assert read.left_out == ["cremad/1003_DFA_FEA_XX: in summaryTable.csv, no file in AudioWAV"]


def test_text_that_is_windows_1252_in_places() -> None:
    assert decode_text(b"\xef\xbb\xbfit\x92s \xe2\x80\x9cnew\xe2\x80\x9d") == "it’s “new”"
    assert decode_text("\u00e9lan isn\u0092t".encode()) == "élan isn’t"
    assert decode_text(b"\xe9lan") == "élan"


def test_meld_text_is_decoded_row_by_row(tmp_path: Path) -> None:
    texts = ["Isn|t it", "Isn’t it, really", "Isn\u0092t it", "plain"]
    rows = [meld_row(0, turn, "joy", text) for turn, text in enumerate(texts)]
    table = tmp_path / "dev_sent_emo.csv"
    write_meld_table(table, rows)
    table.write_bytes(table.read_bytes().replace(b"|", b"\x92"))
    read = [row.text for row in by_id("meld", tmp_path).values()]
    assert read == ["Isn’t it", "Isn’t it, really", "Isn’t it", "plain"]


def test_meld_missing_and_known_broken_and_duplicate_clips(tmp_path: Path) -> None:
    write_meld_table(
        tmp_path / "test_sent_emo.csv",
        [
            meld_row(38, 4, "joy"),
            meld_row(220, 0, "disgust"),
            meld_row(5, 1, "Joy?"),
            meld_row(1, 0, "fear"),
        ],
    )
    clips = tmp_path / "output_repeated_splits_test"
    for name in ("dia220_utt0", "dia1_utt0", "dia999_utt0", "final_videos_testdia1_utt0"):
        put(clips / f"{name}.mp4")
    read = CORPORA["meld"].read(tmp_path)
    assert [row.id for row in read.utterances] == ["meld/test/dia1_utt0", "meld/test/dia220_utt0"]
    assert read.left_out == [
        "note: there is no train_sent_emo.csv",
        "note: there is no dev_sent_emo.csv",
        "test/final_videos_testdia1_utt0: not named diaD_uttU (a duplicate)",
        "meld/test/dia38_utt4: no such clip, as known of some releases",
        "meld/test/dia5_utt1: emotion 'Joy?' is not one of MELD's seven",
        "meld/test/dia999_utt0: no row in test_sent_emo.csv",
        "note: meld/test/dia220_utt0 is broken in some releases; `ser check` opens it",
    ]


def test_meld_words_alone_and_single_splits(tmp_path: Path) -> None:
    make_meld(tmp_path, dialogues=1, clips=False)
    (tmp_path / "train_sent_emo.csv").unlink()
    read = CORPORA["meld"].read(tmp_path)
    assert len(read.utterances) == 14
    assert {row.audio for row in read.utterances} == {None}
    assert read.left_out == [
        "note: there is no train_sent_emo.csv",
        "note: no clips in dev_splits_complete: only the words of dev are kept",
        "note: no clips in output_repeated_splits_test: only the words of test are kept",
    ]
    row = read.utterances[0]
    assert (row.split, row.dialogue, row.speaker) == ("dev", "dev/dia0", "Person 0")
    assert row.extra == {"sentiment": "neutral", "season": 1, "episode": 2, "duration": 1.0}


def test_meld_as_its_archives_unpack(tmp_path: Path) -> None:
    made = make_meld(tmp_path, nested=True)
    read = CORPORA["meld"].read(tmp_path)
    assert {row.id: row.emotion for row in read.utterances} == made.emotions
    assert all(row.audio for row in read.utterances)


def test_meld_table_with_other_columns_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dev_sent_emo.csv").write_text("Utterance,Label\nhi,joy\n")
    with pytest.raises(SerError, match="'Emotion'"):
        CORPORA["meld"].read(tmp_path)


def test_emodb_rates_and_documentation(tmp_path: Path) -> None:
    make_emodb(tmp_path, suffix=".flac")
    put(tmp_path / "wav" / "99a01Fa.flac")
    read = CORPORA["emodb"].read(tmp_path)
    row = read.utterances[0]
    assert row.id == "emodb/03a01Aa"
    assert row.text == "Der Lappen liegt auf dem Eisschrank."
    described = {"sex": "male", "age": 31, "version": "a", "recognised": 97.5, "natural": 80.0}
    assert row.extra == described
    assert read.left_out == ["emodb/99a01Fa: not named SPEAKER SENTENCE EMOTION VERSION"]
    (tmp_path / "erkennung.txt").unlink()
    assert "natural" not in CORPORA["emodb"].read(tmp_path / "wav").utterances[0].extra


def test_ravdess_speech_only_once_each(tmp_path: Path) -> None:
    made = make_ravdess(tmp_path / "speech")
    for name in ("03-02-01-01-01-01-01.wav", "01-01-01-01-01-01-01.mp4", "notes.wav"):
        put(tmp_path / "speech" / "Actor_01" / name)
    put(tmp_path / "speech" / "again" / "Actor_02" / "03-01-05-01-01-01-02.wav")
    read = CORPORA["ravdess"].read(tmp_path)
    assert {row.id: row.emotion for row in read.utterances} == made.emotions
    assert read.left_out == [
        "ravdess/01-01-01-01-01-01-01: video, not audio alone",
        "ravdess/03-02-01-01-01-01-01: song, not speech",
        "ravdess/notes: not named by seven numbers",
        "ravdess/03-01-05-01-01-01-02: a second copy, in speech/again/Actor_02",
    ]
    row = read.utterances[0]
    assert (row.speaker, row.extra["sex"], row.extra["intensity"]) == ("01", "male", "normal")
    assert row.text == "Kids are talking by the door"
    (tmp_path / "speech" / "Actor_01").rename(tmp_path / "speech" / "actor_01")
    assert {row.id for row in CORPORA["ravdess"].read(tmp_path).utterances} == {*made.emotions}


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("summaryTable.csv", ",A,50.5,", ",A,50,5,", r"summaryTable\.csv:2: has 9 cells .* has 8"),
        ("summaryTable.csv", ",A,50.5,", ',"A,50.5,', r"summaryTable\.csv:\d+: unexpected end"),
        (
            "summaryTable.csv",
            "1,1001_DFA_ANG_XX,A,50.5,A,50.5,A,50.5",
            "1,1001",
            r":2: has 2 cells",
        ),
        ("summaryTable.csv", ",A,50.5,", ",A,loud,", r"1001_DFA_ANG_XX .* voice level is 'loud'"),
        ("VideoDemographics.csv", "1001,21", "1001,old", r"the row of 1001 .* Age is 'old'"),
        ("processedResults/tabulatedVotes.csv", ",A,D,", "x,A,D,", r"\['row'\] are needed"),
    ],
)
def test_damaged_tables_are_named(
    table: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    make_cremad(tmp_path)
    make_tallies(tmp_path)
    text = (tmp_path / table).read_text()
    assert old in text
    (tmp_path / table).write_text(text.replace(old, new, 1))
    with pytest.raises(SerError, match=message):
        CORPORA["cremad"].read(tmp_path)


def test_blank_lines_of_a_table_are_no_rows(tmp_path: Path) -> None:
    make_cremad(tmp_path)
    make_tallies(tmp_path)
    before = CORPORA["cremad"].read(tmp_path)
    tables = [*tmp_path.rglob("*.csv")]
    assert len(tables) > 1
    for table in tables:
        table.write_text(f"  \n{table.read_text()}\n \n,,,\n")
    assert CORPORA["cremad"].read(tmp_path) == before


def test_emodb2_speakers_are_not_taken_from_another_column(tmp_path: Path) -> None:
    root = LAYOUTS["emodb2"](tmp_path).root
    table = root / "db.files.csv"
    text, cell = table.read_text(), "0 days 00:00:00.500000,3,"
    assert cell in text
    table.write_text(text.replace(cell, "0,5,3,", 1))
    with pytest.raises(SerError, match=r"db\.files\.csv:2: has 5 cells where the header has 4"):
        CORPORA["emodb2"].read(root)
    table.write_text(text.replace(cell, "0 days 00:00:00.500000,,"))
    assert {row.speaker for row in CORPORA["emodb2"].read(root).utterances} >= {None}


def test_speakers_of_names_in_small_letters_are_those_of_capitals(tmp_path: Path) -> None:
    for name in ("oaf_back_fear", "oa_bite_neutral", "yaf_dog_happy"):
        put(tmp_path / f"{name}.wav")
    rows = {row.id.partition("/")[2]: row for row in CORPORA["tess"].read(tmp_path).utterances}
    speakers = {key: (alike(str(row.speaker)), row.extra["age"]) for key, row in rows.items()}
    assert speakers == {
        "oaf_back_fear": ("oaf", 64),
        "oa_bite_neutral": ("oaf", 64),
        "yaf_dog_happy": ("yaf", 26),
    }


def test_emozionalmente_without_an_emotion(tmp_path: Path) -> None:
    root = LAYOUTS["emozionalmente"](tmp_path).root
    table = root / "metadata" / "evaluations.csv"
    table.write_text(table.read_text().replace("anger.wav,anger", "anger.wav,", 1))
    votes = by_id("emozionalmente", root)["emozionalmente/ada_anger"].votes
    assert votes == {"anger": 2, "happiness": 1, "fear": 1}
    table = root / "metadata" / "samples.csv"
    table.write_text(table.read_text().replace(",anger\n", ",\n", 1).replace(",anger\r", ",\r", 1))
    read = CORPORA["emozionalmente"].read(root)
    assert read.left_out == [
        "emozionalmente/ada_anger: no emotion",
        "note: 1 answer of raters without an emotion: evaluations.csv:2",
    ]


def test_folders_that_are_there_twice_count_once_unless_they_differ(tmp_path: Path) -> None:
    path, again = "OAF_Fear/OAF_back_fear.wav", tmp_path / "data" / "OAF_Fear" / "OAF_back_fear.wav"
    for file in (tmp_path / path, again):
        put(file)
    read = CORPORA["tess"].read(tmp_path)
    assert [row.audio for row in read.utterances] == [str(tmp_path / path)]
    assert read.left_out == ["tess/OAF_back_fear: a second copy, in data/OAF_Fear"]
    again.write_bytes(b"another recording")
    with pytest.raises(SerError, match=r"is both .*; keep one file of each recording"):
        CORPORA["tess"].read(tmp_path)


@pytest.mark.parametrize(
    ("corpus", "file", "twin"),
    [
        ("emodb", "wav/03a01Wa.wav", "wav/03a01Wa.flac"),
        ("ravdess", "Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-01-01-01-01-01-01.mp3"),
        ("cremad", "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_DFA_ANG_XX.mp3"),
        ("cremad", "AudioWAV/1002_DFA_ANG_XX.wav", "AudioWAV/1002_DFA_ANG_X.wav"),
        ("meld", "train_splits/dia0_utt0.mp4", "train_splits/dia0_utt0.wav"),
        (
            "iemocap",
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
            "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.flac",
        ),
    ],
)
def test_two_files_of_one_recording_are_both_named(
    corpus: str, file: str, twin: str, tmp_path: Path
) -> None:
    root = MAKERS[corpus](tmp_path).root
    assert (root / file).is_file()
    put(root / twin)
    with pytest.raises(SerError) as caught:
        CORPORA[corpus].read(root)
    assert str(root / file) in str(caught.value)
    assert str(root / twin) in str(caught.value)
    for nothing, kept in ((twin, file), (file, twin)):
        whole = (root / kept).read_bytes()
        (root / nothing).write_bytes(b"")  # what cannot be a recording is no twin
        assert str(root / kept) in {row.audio for row in CORPORA[corpus].read(root).utterances}
        (root / nothing).write_bytes(whole)


def test_melds_clips_are_expected_to_last_as_their_table_says(tmp_path: Path) -> None:
    rows = CORPORA["meld"].read(make_meld(tmp_path).root).utterances
    assert {row.extra["duration"] for row in rows} == {1.0}


def test_a_corpus_table_saved_as_utf16_is_read(tmp_path: Path) -> None:
    table = make_meld(tmp_path).root / "dev_sent_emo.csv"
    rows = CORPORA["meld"].read(tmp_path).utterances
    table.write_bytes(table.read_text(encoding="utf-8").encode("utf-16"))
    assert CORPORA["meld"].read(tmp_path).utterances == rows
