"""Leaks that other tools accept: each is reintroduced here and must be refused or reported."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from made_corpora import make_cremad
from made_features import FOUR, made_folder, made_rows
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora import CORPORA
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.errors import SplitError
from multimodal_ser.experiments import protocols, transfer
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.features import extract
from multimodal_ser.splits import make_split
from multimodal_ser.splits.cautions import cautions, cautions_of_folds
from multimodal_ser.splits.folds import Fold, Split, read_split, write_split
from multimodal_ser.splits.leaks import copies_by_name, shared_between
from test_check import CHANGES, speech
from test_emobox import cremad_row, write_fold
from test_extract import FakeEncoder

SETTINGS = {"seeds": 1, "network": ModelConfig(), "schedule": TrainConfig()}


def corpus(root: Path, name: str, first: int, speakers: str = "pqrs") -> list[Utterance]:
    """Recordings that differ from each other, of the seeds from `first` on."""
    rows = []
    (root / name).mkdir(parents=True)
    for number in range(4 * len(speakers)):
        path = root / name / f"{number:02d}.wav"
        soundfile.write(path, speech(first + number, 2.0), 16_000)
        emotion = ("anger", "sadness")[number % 2]
        speaker = speakers[number // 4]
        rows.append(Utterance(f"{name}/{number:02d}", name, emotion, str(path), speaker=speaker))
    return rows


def domain(rows: list[Utterance], root: Path, **options):
    out = extract(rows, FakeEncoder(), root / "f", tokens=1).path.parent
    return load_domain(out, "anger,sadness", "speaker", **options)


@pytest.mark.parametrize("change", ["none", *CHANGES])
def test_a_copy_under_another_speaker_is_a_leak(tmp_path, change):
    rows = corpus(tmp_path, "my", 0)
    samples, rate, options = CHANGES.get(change, lambda wave: (wave, 16_000, {}))(speech(0, 2.0))
    soundfile.write(tmp_path / "copy.bin", samples, rate, **({"format": "WAV"} | options))
    rows.append(Utterance("my/zz", "my", "anger", str(tmp_path / "copy.bin"), speaker="s"))
    with pytest.raises(
        SplitError, match=r"1 recordings stand both in a test part.*--allow recording"
    ):
        domain(rows, tmp_path)
    leaks = domain(rows, tmp_path, allow=("recording",))[1].leaks
    assert len(leaks) == 1
    assert leaks[0].startswith("1 recordings stand both in a test part")


def test_corpora_that_overlap_are_no_combined_training(tmp_path):
    first = domain(corpus(tmp_path, "one", 0), tmp_path)
    second = domain(corpus(tmp_path, "two", 12, speakers="tuvw"), tmp_path)  # four are the same
    other = domain(corpus(tmp_path, "three", 100, speakers="tuvw"), tmp_path)
    with pytest.raises(SplitError, match=r"tested recordings are, as they are or as copies"):
        protocols.Combined(model="audio", **SETTINGS).plan([first, second])
    allowed = protocols.Combined(model="audio", **SETTINGS).plan(
        [first, second], allow=("recording",)
    )
    assert all("tested recordings" in p.config.split.leaks[0] for p in allowed.plans)
    twin = domain(corpus(tmp_path, "twin", 0), tmp_path)  # whose folds fall as those of "one"
    with pytest.raises(SplitError, match="also in another corpus"):
        protocols.Combined(model="audio", **SETTINGS).plan([first, twin])
    clean = protocols.Combined(model="audio", **SETTINGS).plan([first, other])
    assert not any(item.config.split.leaks for item in clean.plans)


def test_a_source_that_holds_copies_of_the_target_is_refused(tmp_path):
    rows = corpus(tmp_path, "one", 0)
    copies = corpus(tmp_path, "two", 0)
    for row in copies:
        samples, rate = soundfile.read(row.audio)
        soundfile.write(row.audio, 0.3 * samples[1500:], rate)
    with pytest.raises(SplitError, match="unchanged or as altered copies"):
        transfer.Adaptation(methods=("none",), model="audio", **SETTINGS).plan(
            *domain(rows, tmp_path), *domain(copies, tmp_path)
        )


def test_speakers_of_one_name_in_two_corpora_are_said(tmp_path):
    one, two = (
        domain(corpus(tmp_path, name, first), tmp_path) for name, first in (("a", 0), ("b", 50))
    )
    experiment = transfer.Adaptation(methods=("none",), model="audio", **SETTINGS).plan(*one, *two)
    said = "have the name of one that another corpus is learnt from, such as 'q'"
    for item in experiment.plans:
        assert any(said in mark for mark in item.config.marks)


@pytest.mark.parametrize("content", [None, "absent", "0123456789abcdef"])
def test_one_recording_of_two_speakers_is_found_whatever_the_features(content):
    rows = made_rows(40, 5)
    paths = ["/x/0.wav", "/y/0.wav" if content and content != "absent" else "/x/../x/0.wav"]
    twice = [next(row for row in rows if row.speaker == name) for name in ("s0", "s1")]
    heard = [
        replace(row, audio=path, content=content) for row, path in zip(twice, paths, strict=True)
    ]
    rows = [*heard, *(row for row in rows if row not in twice)]
    with pytest.raises(SplitError, match=r"1 recordings stand both in a test.*--allow recording"):
        make_split(rows, "speaker")
    copies, _ = shared_between([heard[0]], [replace(heard[1], id="other/1", corpus="other")], {})
    assert copies == ["other/1"]
    # but a file that many rows name only stands in for recordings that are elsewhere
    stood_in = [
        replace(row, audio=f"/x/{row.emotion}.wav", content=content and row.emotion) for row in rows
    ]
    assert len(make_split(stood_in, "speaker").folds) == 5


@pytest.mark.parametrize(
    ("theirs", "shared"),
    [((None, None), True), ((1.0, 4.0), True), ((3.0, 6.0), False), ((0.5, 2.0), True)],
)
def test_stretches_of_two_corpora_that_overlap_share_their_sound(theirs, shared):
    """A podcast cut into windows by one team and into turns by another is one recording."""
    row = made_rows(40, 5)[0]
    learnt = replace(row, audio="/x/long.wav", start=0.0, end=3.0)
    start, end = theirs
    tested = replace(learnt, id="other/1", corpus="other", start=start, end=end)
    next_to_it = replace(tested, id="other/2", start=5.5, end=9.0)  # overlaps with the tested only
    copies, _ = shared_between([learnt], [tested, next_to_it], {})
    assert copies == (["other/1"] if shared else [])


@pytest.mark.parametrize(
    "name",
    [
        "sp0.9-000",
        "000_noise",
        "000_noise_10db_speed1.1",
        "000_pitch-2",
        "augmented/000",
        "000-aug3",
    ],
)
def test_copies_are_known_by_the_names_that_augmentation_gives(name):
    """Faster speech has another fingerprint; and Kaldi names its speakers anew, too."""
    rows = made_rows(40, 5)
    assert rows[0].id == "mine/000"
    rows.append(replace(rows[0], id=f"mine/{name}", speaker="sp0.9-s0", dialogue="d"))
    told = f"1 recordings stand both in a test.*'mine/000' and 'mine/{re.escape(name)}'|"
    told += f"1 recordings stand both in a test.*'mine/{re.escape(name)}' and 'mine/000'"
    with pytest.raises(SplitError, match=told):
        make_split(rows, "speaker", allow=["session"])
    (said,) = [line for line in cautions(rows) if "altered copies" in line]
    assert (
        f"1 utterance named as altered copies of others, such as 'mine/{name}' of 'mine/000'"
        in said
    )


def test_names_that_only_look_like_copies_are_none():
    rows = made_rows(40, 5)
    for name in ("001_noise_a", "noise", "aug", "000x", "shift_1", "OAF_noise_angry", "sp-000"):
        rows.append(replace(rows[0], id=f"mine/{name}", speaker="another", dialogue="d"))
    assert len(make_split(rows, "speaker", allow=["session"]).folds) == 6


@pytest.mark.parametrize("content", [None, "0123456789abcdef"])
def test_turns_of_one_file_in_two_parts_are_said(content):
    """Turns of an interview whose speakers nobody named: one room, and probably one voice."""
    rows = [
        replace(
            row,
            audio=f"/x/{n // 8}.wav" if content is None else f"/x/{n}.wav",
            content=content and f"{content}{n // 8}",
            start=n % 8 * 2.0,
            end=n % 8 * 2.0 + 2.0,
        )
        for n, row in enumerate(made_rows(40, 5))
    ]
    (note,) = make_split(rows, "speaker").notes
    assert note.startswith("5 files hold utterances both of a test part and of its training")
    apart = [replace(row, dialogue=(row.content or row.audio)) for row in rows]
    by_file = make_split(apart, "dialogue", allow=["speaker", "session"])
    assert not any("files hold" in note for note in by_file.notes)
    copies, notes = shared_between(rows[:2], [replace(rows[2], id="other/1", corpus="other")], {})
    assert copies == []
    assert "1 tested utterances, such as 'other/1', are cut from files that another" in notes[0]


def test_anna_and_Anna_are_one_speaker():
    rows = made_rows(40, 5)
    rows = [
        replace(r, speaker={"s0": "anna_07", "s1": "Anna 7"}.get(r.speaker, r.speaker))
        for r in rows
    ]
    by_hand = Split("mine", (fold_of(rows, test="anna_07", validation="s2"),))
    with pytest.raises(
        SplitError, match=r"1 speakers stand both in a test.*such as 'mine/anna_07'"
    ):
        split_again(rows, by_hand)
    assert len(make_split(rows, "speaker").folds) == 4


def fold_of(rows, test, validation):
    part = {test: "test", validation: "validation"}
    sides = {
        side: tuple(row.id for row in rows if part.get(row.speaker, "train") == side)
        for side in ("train", "validation", "test")
    }
    return Fold("one", **sides)


def split_again(rows, split, allow=(), folder=Path()):

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "split.json"
        write_split(split, path)
        return make_split(rows, str(path), allow=allow)


def test_folds_that_test_only_what_is_easy_are_told():
    rows = made_rows(40, 5)
    whole = make_split(rows, "speaker")
    first, *folds = whole.folds
    split = Split("mine", (replace(first, test=first.test[1:]), *folds))
    assert split_again(rows, split).notes == (
        *whole.notes, f"1 utterances, such as {first.test[0]!r}, are tested by no fold",
    )  # fmt: skip


def test_folds_that_test_the_same_rows_are_refused_or_said():
    rows = made_rows(40, 5)
    folds = (fold_of(rows, "s0", "s1"), replace(fold_of(rows, "s0", "s2"), name="two"))
    with pytest.raises(SplitError, match=r"8 utterances are tested by several folds.*--allow fold"):
        split_again(rows, Split("mine", folds))
    leaks = split_again(rows, Split("mine", folds), allow=("fold",)).leaks
    assert leaks == ("8 utterances are tested by several folds and count more than once",)


def test_speakers_shared_by_training_and_validation_are_said(tmp_path):
    rows = made_rows(40, 5)
    fold = fold_of(rows, "s0", "s1")
    moved = replace(fold, train=fold.train[1:], validation=(*fold.validation, fold.train[0]))
    made = split_again(rows, Split("mine", (moved,)))
    assert made.leaks == ()
    (note,) = made.notes
    assert note.startswith("1 speakers stand both in a training part and in its validation part")
    write_split(made, tmp_path / "s.json")
    assert read_split(tmp_path / "s.json") == made
    material, _ = load_domain(made_folder(tmp_path, rows), ",".join(FOUR), "speaker")
    plans = protocols.InDomain(models=("linear",), **SETTINGS).plan(material, made).plans
    assert all(note in item.config.marks for item in plans)


def test_equal_features_of_several_rows_are_said(tmp_path):
    rows = made_rows(40, 5)
    material, _ = load_domain(made_folder(tmp_path, rows), ",".join(FOUR), "speaker")
    assert not any("very same audio features" in mark for mark in material.marks)
    recorded = corpus(tmp_path, "my", 0)
    recorded[1] = replace(recorded[1], audio=recorded[0].audio)
    result = extract(recorded, FakeEncoder(), tmp_path / "g", tokens=1)
    assert result.repeated == ["my/01"]
    material, _ = load_domain(result.path.parent, "anger,sadness", "speaker")
    assert any(mark.startswith("1 utterances have the very same") for mark in material.marks)


def test_an_incomplete_benchmark_is_reported(tmp_path):
    rows = CORPORA["cremad"].read(make_cremad(tmp_path / "c").root).utterances
    listed = [cremad_row(row) for row in rows]
    write_fold(
        tmp_path / "box", 1, "cremad", train=listed[12:], valid=listed[:6], test=listed[6:12]
    )
    whole = make_split(rows, str(tmp_path / "box"))
    assert (whole.name, whole.notes) == ("emobox-box", ())
    part = make_split([row for row in rows if row.emotion != "FEA"], str(tmp_path / "box"))
    assert part.name == "part of emobox-box"
    assert part.notes[0].startswith("6 of the 36 rows that EmoBox lists in box have no features")
    assert "no result of that benchmark" in part.notes[0]


def test_misleading_labels_are_reported():
    rows = made_rows(40, 5)
    assert cautions(rows) == []
    rare = [replace(rows[0], emotion="awe"), *rows[1:]]
    assert cautions(rare) == [
        "mine: the class 'awe' has one utterance, which can be trained on or tested, not both"
    ]
    single = [row for row in rows if row.speaker != "s4" or row.emotion == "anger"]
    (said,) = cautions(single)
    assert said.startswith("mine: 1 of 5 speakers have utterances of one class only, such as 's4'")
    assert any(
        "called 'nan'" in said for said in cautions([replace(rows[0], speaker="nan"), *rows])
    )


def test_folds_without_a_class_are_named():
    rows = [row for row in made_rows(40, 5) if row.speaker != "s0" or row.emotion != "anger"]
    split = make_split(rows, "speaker")
    said = cautions_of_folds(split.folds, {row.id: row.emotion for row in rows}, FOUR)
    assert "no 'anger' in the test part of 1 folds, such as 'speaker=s0'" in said
    assert not any("train part" in line for line in said)


def test_noise_of_one_kind_is_no_copy(tmp_path):
    draw = np.random.default_rng(0)
    rows = corpus(tmp_path, "my", 0)
    for row in rows:
        soundfile.write(row.audio, draw.normal(0, 0.1, 32_000), 16_000)
    assert domain(rows, tmp_path)[1].leaks == ()


@pytest.mark.parametrize("end", ["!", "_left", "x2y"])
def test_a_name_with_many_digits_is_read_at_once(end):
    """If digits could be divided in several ways, this would not end."""
    row = made_rows(1)[0]
    rows = [replace(row, id=f"mine/a_noise{digits}{end}") for digits in ("1" * 80, "-1" * 40)]
    assert list(copies_by_name(rows)) == []
