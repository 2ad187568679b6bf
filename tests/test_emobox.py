"""EmoBox's folds, in the form that the benchmark publishes them."""

import json
from dataclasses import replace

import pytest

from made_corpora import make_cremad, make_iemocap, make_meld
from multimodal_ser.corpora import CORPORA
from multimodal_ser.errors import SplitError
from multimodal_ser.splits import make_split


def cremad_row(row):
    stem = row.id.split("/")[1]
    stem = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}.get(stem, stem)
    key, wav = stem.replace("_", "-"), f"downloads/cremad/AudioWAV/{stem}.wav"
    return _row("cremad", f"cremad-{key}", wav, row.emotion)


def iemocap_row(row):
    stem = row.id.split("/")[1]
    session, dialogue = f"Session{int(stem[3:5])}", stem.rsplit("_", 1)[0]
    wav = f"downloads/iemocap/{session}/sentences/wav/{dialogue}/{stem}.wav"
    return _row("iemocap", f"iemocap-{stem}", wav, row.emotion)


def meld_row(row):
    part, clip = row.id.split("/")[1:]
    folder = {"train": "train_splits", "dev": "dev_splits_complete"}.get(
        part, "output_repeated_splits_test"
    )
    return _row("meld", f"meld-{part}-{clip}", f"downloads/meld/{folder}/{clip}.mp4", row.emotion)


def _row(dataset, key, wav, emotion):
    return {
        "key": key, "dataset": dataset, "wav": wav, "type": "raw", "sample_rate": 16000,
        "num_frame": 36837.0, "task": "category", "length": 2.3, "emo": emotion, "channel": 1,
    }  # fmt: skip


def write_fold(folder, number, corpus, **sides):
    for side, rows in sides.items():
        path = folder / f"fold_{number}" / f"{corpus}_{side}_fold_{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def ids(rows):
    return tuple(row.id for row in rows)


@pytest.fixture
def cremad(tmp_path):
    names = [f"{a}_{s}_{e}_XX" for a in range(1039, 1045) for s in ("WSI", "ITH") for e in
             ("ANG", "SAD", "NEU")]  # fmt: skip
    names[names.index("1040_ITH_SAD_XX")] = "1040_ITH_SAD_X"
    return CORPORA["cremad"].read(make_cremad(tmp_path / "cremad", names).root).utterances


def test_cremads_folds_have_no_validation_part_so_whole_speakers_are_held_out(cremad, tmp_path):
    folder = tmp_path / "cremad-folds"
    halves = cremad[:18], cremad[18:]
    for number in (1, 2):
        train, test = halves[number - 1], halves[2 - number]
        write_fold(
            folder, number, "cremad", train=map(cremad_row, train), test=map(cremad_row, test)
        )
    split = make_split(cremad, str(folder))
    assert split.name == "emobox-cremad-folds"
    assert [fold.name for fold in split.folds] == ["fold_1", "fold_2"]
    speaker = {row.id: row.speaker for row in cremad}
    for fold, (train, test) in zip(split.folds, (halves, halves[::-1]), strict=True):
        assert fold.test == ids(test)  # the misspelt clip among them
        assert sorted((*fold.train, *fold.validation)) == list(ids(train))
        assert len(fold.validation) == 6
        assert not {speaker[k] for k in fold.train} & {speaker[k] for k in fold.validation}
    assert split.leaks == ()


def test_shared_speakers_are_taken_as_they_are_and_said(cremad, tmp_path):
    write_fold(
        tmp_path / "folds", 1, "cremad",
        train=map(cremad_row, cremad[::2]), test=map(cremad_row, cremad[1::2]),
    )  # fmt: skip
    assert "6 speakers" in make_split(cremad, str(tmp_path / "folds")).leaks[0]


def test_folds_come_in_the_order_of_their_numbers(cremad, tmp_path):
    for number in (10, 2, 1):
        write_fold(
            tmp_path, number, "cremad",
            train=map(cremad_row, cremad[:18]), test=map(cremad_row, cremad[18:]),
        )  # fmt: skip
    names = [fold.name for fold in make_split(cremad, str(tmp_path)).folds]
    assert names == ["fold_1", "fold_2", "fold_10"]


def test_iemocaps_rows_are_found_by_their_files(tmp_path):
    rows = CORPORA["iemocap"].read(make_iemocap(tmp_path / "iemocap").root).utterances
    train, test = (
        [row for row in rows if (row.session == "Ses05") is last] for last in (False, True)
    )
    write_fold(
        tmp_path / "folds", 1, "iemocap", train=map(iemocap_row, train), test=map(iemocap_row, test)
    )
    (fold,) = make_split(rows, str(tmp_path / "folds")).folds
    assert fold.test == ids(test)
    assert sorted((*fold.train, *fold.validation)) == sorted(ids(train))
    # Rows of the benchmark that a class set leaves out are passed over.
    known = [row for row in rows if row.emotion in ("ang", "hap", "neu", "sad")]
    (fold,) = make_split(known, str(tmp_path / "folds")).folds
    assert fold.test == tuple(row.id for row in known if row.session == "Ses05")


def test_melds_own_validation_part_is_used(tmp_path):
    rows = CORPORA["meld"].read(make_meld(tmp_path / "meld").root).utterances
    parts = {name: [row for row in rows if row.split == name] for name in ("train", "dev", "test")}
    write_fold(
        tmp_path / "folds", 1, "meld", train=map(meld_row, parts["train"]),
        valid=map(meld_row, parts["dev"]), test=map(meld_row, parts["test"]),
    )  # fmt: skip
    (fold,) = make_split(rows, str(tmp_path / "folds")).folds
    assert (fold.train, fold.validation, fold.test) == tuple(ids(part) for part in parts.values())


def test_what_is_no_fold_folder_is_refused(cremad, tmp_path):
    with pytest.raises(SplitError, match="no fold_1"):
        make_split(cremad, str(tmp_path))
    write_fold(tmp_path, 1, "cremad", train=map(cremad_row, cremad), test=[{"key": "x"}])
    with pytest.raises(SplitError, match=r"cremad_test_fold_1\.jsonl:1: not an EmoBox row"):
        make_split(cremad, str(tmp_path))
    write_fold(tmp_path, 1, "cremad", test=[cremad_row(replace(cremad[0], id="cremad/other"))])
    with pytest.raises(SplitError, match="no train or test rows"):
        make_split(cremad, str(tmp_path))
    write_fold(tmp_path, 1, "cremad", test=[cremad_row(cremad[0])])
    with pytest.raises(SplitError, match=r"'cremad/.*' occurs twice"):
        make_split(cremad, str(tmp_path))
