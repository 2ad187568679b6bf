"""Folds: each utterance is tested once, groups stay whole, leaks are refused or reported."""

import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from made_corpora import make_cremad, make_iemocap, make_meld
from made_features import made_rows
from multimodal_ser.corpora import CORPORA
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.errors import SplitError
from multimodal_ser.splits import GROUPS, SCHEMES, VALIDATION_SHARE, make_split
from multimodal_ser.splits.folds import (
    Few,
    Fold,
    Split,
    few_fold,
    hold_out,
    read_split,
    write_split,
)
from multimodal_ser.splits.leaks import OVERLAPS

PARTS = ("train", "validation", "test")


def sides(split, rows, of):
    """What stands on both sides of a test part, for each fold."""
    value = {row.id: of(row) for row in rows}
    return [
        {value[key] for key in fold.test} & {value[key] for key in (*fold.train, *fold.validation)}
        for fold in split.folds
    ]


def check_partition(split, rows):
    ids = {row.id for row in rows}
    for fold in split.folds:
        assert Counter((*fold.train, *fold.validation, *fold.test)) == Counter(ids)
    assert Counter(key for fold in split.folds for key in fold.test) == Counter(ids)


@pytest.mark.parametrize("folds", [None, 2, 3, 4])
@pytest.mark.parametrize("group", GROUPS)
def test_groups_are_tested_once_and_stand_on_one_side(group, folds):
    rows = made_rows(72, speakers=6)
    split = make_split(rows, group, folds=folds, allow=GROUPS)
    check_partition(split, rows)
    assert not any(sides(split, rows, lambda row: getattr(row, group)))
    assert len(split.folds) == (folds or len({getattr(row, group) for row in rows}))
    assert split.name == (group if folds is None else f"{group}-{folds}")


@pytest.mark.parametrize("folds", [None, 3])
def test_validation_keeps_groups_whole_too(folds):
    rows = made_rows(72, speakers=6)
    speaker = {row.id: row.speaker for row in rows}
    for fold in make_split(rows, "speaker", folds=folds).folds:
        assert not {speaker[key] for key in fold.validation} & {speaker[key] for key in fold.train}


def test_folds_are_counted_for_splits_by_group_alone():
    with pytest.raises(SplitError, match="'cremad-original' has folds of its own"):
        make_split(made_rows(), "cremad-original", folds=3)


@pytest.mark.parametrize(
    ("scheme", "folds"),
    [("speaker", None), ("speaker", 3), ("session", None), ("cremad-original", None)],
)
def test_the_order_on_disk_does_not_matter(scheme, folds):
    rows = made_rows(72, speakers=6)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert make_split(rows, scheme, folds=folds) == make_split(shuffled, scheme, folds=folds)


@settings(max_examples=60, deadline=None)
@given(
    names=some.lists(
        some.tuples(some.integers(0, 6), some.integers(0, 3), some.sampled_from("ab")),
        min_size=3,
        max_size=40,
    ),
    group=some.sampled_from(("speaker", "dialogue")),
    folds=some.none() | some.integers(3, 5),  # with 2, one large group may leave none to validate
)
def test_any_speakers_and_dialogues_give_a_partition_without_leaks(names, group, folds):
    rows = [
        Utterance(f"{corpus}/{n}", corpus, "joy", speaker=f"s{s}", dialogue=f"s{s}d{d}")
        for n, (s, d, corpus) in enumerate(names)
    ]
    groups = {(row.corpus, getattr(row, group)) for row in rows}
    if len(groups) < (folds or 3):
        with pytest.raises(SplitError, match=group):
            make_split(rows, group, folds=folds)
        return
    split = make_split(rows, group, folds=folds, allow=("speaker",))
    check_partition(split, rows)
    assert not any(sides(split, rows, lambda row: (row.corpus, getattr(row, group))))


def test_folds_are_balanced():
    sizes = [len(fold.test) for fold in make_split(made_rows(80, 10), "speaker", folds=5).folds]
    assert sizes == [16] * 5


@pytest.mark.parametrize("folds", [0, 1, 7])
def test_an_impossible_number_of_folds_says_what_is_possible(folds):
    with pytest.raises(SplitError, match=rf"{folds} folds by speaker.*2 to 6"):
        make_split(made_rows(72, speakers=6), "speaker", folds=folds)


def test_training_keeps_a_group_however_small_the_others_are():
    rows = [row for row in made_rows(120, 3) if row.speaker == "s2" or row.id < "mine/008"]
    (fold, *_) = make_split(rows, "speaker").folds  # s0: 4, s1: 4, s2: 40 utterances
    assert [len(getattr(fold, part)) for part in PARTS] == [40, 4, 4]


def test_too_few_groups_and_missing_groups_are_errors():
    with pytest.raises(SplitError, match="2 speakers cannot give"):
        make_split(made_rows(24, speakers=2), "speaker")
    with pytest.raises(SplitError, match=r"1 speaker cannot give.* split by one of: session, dial"):
        make_split(made_rows(24, speakers=1), "speaker")
    unnamed = [replace(row, speaker=None, session=None) for row in made_rows()]
    with pytest.raises(SplitError, match=r"'mine/000', have no speaker.*fill in.*of: dialogue, or"):
        make_split(unnamed, "speaker")
    with pytest.raises(SplitError, match=r"these rows out, or give a split file"):
        make_split([replace(row, dialogue=None) for row in unnamed], "speaker")


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(SplitError) as caught:
        make_split(made_rows(), "by-moon")
    assert "'by-moon'" in str(caught.value)
    assert all(name in str(caught.value) for name in SCHEMES)
    with pytest.raises(SplitError, match=r"'weather'.*speaker, session, dialogue, recording"):
        make_split(made_rows(), "speaker", allow=("weather",))


def test_melds_official_parts(tmp_path):
    rows = CORPORA["meld"].read(make_meld(tmp_path).root).utterances
    split = make_split(rows, "official")
    assert [len(getattr(split.folds[0], part)) for part in PARTS] == [21, 21, 21]
    for part, folder in zip(PARTS, ("train", "dev", "test"), strict=True):
        assert {key.split("/")[1] for key in getattr(split.folds[0], part)} == {folder}
    assert any("speakers stand both" in leak for leak in split.leaks)  # the same six friends
    without = [row for row in rows if row.split != "dev"]
    with pytest.raises(SplitError, match=r"train, dev and test.*\['dev'\]"):
        make_split(without, "official")


def test_the_originals_iemocap_split(tmp_path):
    rows = CORPORA["iemocap"].read(make_iemocap(tmp_path).root).utterances
    split = make_split(rows, "iemocap-original")
    session = {row.id: row.session for row in rows}
    assert [{session[key] for key in getattr(split.folds[0], part)} for part in PARTS] == [
        {"Ses01", "Ses02", "Ses03"},
        {"Ses04"},
        {"Ses05"},
    ]
    assert split.leaks == ()
    with pytest.raises(SplitError, match="iemocap-original"):
        make_split(made_rows(72, speakers=6), "iemocap-original")


def test_the_originals_cremad_split_says_that_it_leaks(tmp_path):
    rows = CORPORA["cremad"].read(make_cremad(tmp_path).root).utterances
    split = make_split(rows, "cremad-original")
    (fold,) = split.folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (29, 3, 4)
    assert any("speakers stand both" in leak for leak in split.leaks)
    assert "leak" in SCHEMES["cremad-original"].about


def test_an_overlap_is_an_error_unless_asked_for_by_name():
    rows = made_rows(60)
    for group in ("speaker", "session"):
        with pytest.raises(SplitError, match=r"5 \w+s stand both .*--allow"):
            make_split(rows, "dialogue", allow={"speaker", "session"} - {group})
    split = make_split(rows, "dialogue", allow=("speaker", "session"))
    assert [leak.split()[:2] for leak in split.leaks] == [["5", "speakers"], ["5", "sessions"]]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_tested_speaker_or_utterance_is_in_no_other_part_of_a_given_fold(part, tmp_path):
    rows = made_rows(60, speakers=6)
    said = {f"s{n}": [row.id for row in rows if row.speaker == f"s{n}"] for n in range(6)}
    parts = {"train": [*said["s0"], *said["s1"]], "validation": said["s2"], "test": said["s3"]}
    path = tmp_path / "mine.json"

    def of(**more):
        ids = {name: (*keys, *more.get(name, ())) for name, keys in parts.items()}
        write_split(Split("mine", (Fold("one", **ids),)), path)
        return make_split(rows, str(path), allow=() if "test" in more else OVERLAPS)

    with pytest.raises(SplitError, match=f"the id '{said['s3'][0]}' occurs twice"):
        of(**{part: said["s3"][:1]})
    parts[part], parts["test"] = [*parts[part], said["s3"][0]], said["s3"][1:]
    with pytest.raises(SplitError, match=r"1 speakers stand both .* test part"):
        of(test=())


def test_two_folds_of_one_name_are_an_error(tmp_path):
    """Their runs would go to the same folder, and the table would be of one of them."""
    rows = made_rows(60, speakers=6)
    folds = make_split(rows, "speaker", folds=3).folds
    path = tmp_path / "mine.json"
    write_split(Split("mine", tuple(replace(fold, name="same") for fold in folds)), path)
    with pytest.raises(SplitError, match="3 folds are called 'same'; give each"):
        make_split(rows, str(path))


def test_a_dialogue_on_both_sides_is_an_error():
    rows = [replace(row, dialogue=f"d{n % 7}") for n, row in enumerate(made_rows())]
    with pytest.raises(SplitError, match=r"7 dialogues stand both.*--allow dialogue"):
        make_split(rows, "speaker")
    assert len(make_split(rows, "speaker", allow=("dialogue",)).leaks) == 1


def test_an_identical_recording_on_both_sides_is_an_error():
    rows = made_rows()
    hashes = {row.id: row.id for row in rows}
    assert make_split(rows, "speaker", sounds=hashes).leaks == ()
    hashes["mine/004"] = hashes["mine/000"]  # two speakers, one recording
    with pytest.raises(SplitError, match=r"'mine/000' and 'mine/004'; keep one.*--allow"):
        make_split(rows, "speaker", sounds=hashes)
    (leak,) = make_split(rows, "speaker", sounds=hashes, allow=("recording",)).leaks
    assert "1 recordings" in leak


def test_a_speaker_of_the_same_name_in_another_corpus_is_another():
    split = make_split(made_rows(24, 3) + made_rows(24, 3, corpus="yours"), "speaker")
    assert {fold.name for fold in split.folds} == {
        f"speaker={corpus}/s{n}" for corpus in ("mine", "yours") for n in range(3)
    }
    assert split.leaks == ()


def test_a_split_file_comes_back_as_it_was(tmp_path):
    rows = made_rows()
    split = make_split(rows, "dialogue", folds=3, allow=("speaker", "session"))
    write_split(split, tmp_path / "new" / "split.json")
    assert read_split(tmp_path / "new" / "split.json") == split
    path = str(tmp_path / "new" / "split.json")
    again = make_split(rows, path, allow=("speaker", "session"))
    assert (again, again.hash) == (split, split.hash)
    with pytest.raises(SplitError, match="--allow speaker"):  # the file cannot admit for the user
        make_split(rows, path)
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["split.json"]


def test_a_list_of_speakers_is_a_split(tmp_path):
    rows, path = made_rows(24, speakers=6), tmp_path / "published.json"
    lists = {"train": ["s0", "s1", "S2"], "dev": ["s3"], "test": ["s4", "s05"]}  # spelt otherwise
    path.write_text(json.dumps(lists))
    (fold,) = make_split(rows, str(path)).folds
    speaker = {row.id: row.speaker for row in rows}
    found = [{speaker[key] for key in getattr(fold, part)} for part in PARTS]
    assert (fold.name, found) == ("published", [{"s0", "s1", "s2"}, {"s3"}, {"s4", "s5"}])
    path.write_text(json.dumps({"Train": ["s0", "s1", "s2"], "validation": ["s3"], "test": ["s4"]}))
    assert make_split(rows, str(path)).folds[0].validation == fold.validation
    path.write_text(json.dumps({"train": ["s0", "s1", "s2"], "test": ["s3"]}))  # no dev, three left
    (fold,) = make_split(rows, str(path)).folds
    assert {speaker[key] for key in fold.test} == {"s3"}
    assert fold.validation
    assert len({*fold.train, *fold.validation}) == 12
    (note,) = make_split(rows, str(path)).notes
    assert re.match(r"8 of 24 .* \(all those of 2 speakers among them\), are in no part", note)
    path.write_text(json.dumps(lists | {"test": ["s4", "s5", "s6", "s7"]}))
    (note,) = make_split(rows, str(path)).notes
    assert note == "2 speakers that published.json lists, such as 's6', do not speak here"
    path.write_text(json.dumps(lists | {"test": ["1001"]}))
    with pytest.raises(SplitError, match=r"none of its test speakers, such as '1001'.* as s0, s1"):
        make_split(rows, str(path))
    path.write_text(json.dumps(lists | {"test": ["s4", "S2"]}))  # spelt otherwise, and in train
    with pytest.raises(SplitError, match="'S2' is in train and in test; keep each speaker in one"):
        make_split(rows, str(path))
    path.write_text(json.dumps(lists | {"dev": "s3"}))
    with pytest.raises(SplitError, match="dev is not a list of speakers"):
        make_split(rows, str(path))


def test_rows_without_an_official_part_are_told():
    rows = [replace(row, split=part) for row, part in zip(
        made_rows(8, speakers=4), ("train", "dev", "test", None) * 2, strict=True)]  # fmt: skip
    (note,) = make_split(rows, "official", allow=GROUPS).notes[-1:]
    assert note.startswith("2 of 8 utterances, such as ")


def test_an_altered_split_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    write_split(make_split(made_rows(), "speaker"), path)
    row = json.loads(path.read_text())
    fold = row["folds"][0]
    fold["train"].append(fold["test"].pop())
    path.write_text(json.dumps(row))
    with pytest.raises(SplitError, match=r"split\.json.*was changed"):
        read_split(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folds": [1], "name": "x"}', "\x00"])
def test_no_split_file_is_refused(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(SplitError, match=r"split\.json: neither a split file .*ser split"):
        read_split(path)


def test_a_split_of_other_utterances_is_refused(tmp_path):
    rows = made_rows()
    write_split(make_split(rows, "speaker"), tmp_path / "split.json")
    with pytest.raises(SplitError, match=r"1 ids are not among the 59.*'mine/059'"):
        make_split(rows[:-1], str(tmp_path / "split.json"))


CLASSES = {f"u{n:02d}": "abc"[n % 3] for n in range(60)}
WHOLE = Fold("0", tuple(list(CLASSES)[:45]), tuple(list(CLASSES)[45:50]), tuple(list(CLASSES)[50:]))


def counts(keys):
    return Counter(CLASSES[key] for key in keys)


@pytest.mark.parametrize(
    ("few", "of_each"),
    [(Few("percent", 40, 0), 6), (Few("shots", 4, 0), 4), (Few("percent", 100, 0), 15)],
)
def test_few_shots_are_stratified_with_their_own_validation(few, of_each):
    fold = few_fold(WHOLE, CLASSES, few)
    drawn = {*fold.train, *fold.validation}
    assert drawn <= set(WHOLE.train)
    assert not set(fold.train) & set(fold.validation)
    assert counts(drawn) == dict.fromkeys("abc", of_each)
    assert counts(fold.validation) == dict.fromkeys("abc", max(1, round(of_each / 5)))
    assert (fold.name, fold.test) == (WHOLE.name, WHOLE.test)


def test_few_do_not_depend_on_order_but_on_the_draw():
    turned = replace(WHOLE, train=WHOLE.train[::-1])
    first, again, other = (
        few_fold(fold, CLASSES, Few("shots", 4, draw))
        for fold, draw in ((WHOLE, 0), (turned, 0), (WHOLE, 1))
    )
    assert first == again
    assert {*first.train, *first.validation} != {*other.train, *other.validation}


def test_smaller_amounts_are_subsets_of_the_same_draw():
    drawn = [few_fold(WHOLE, CLASSES, Few("percent", share, 2)) for share in (20, 40, 100)]
    ids = [{*fold.train, *fold.validation} for fold in drawn]
    assert ids[0] < ids[1] < ids[2]


def test_a_class_that_the_training_part_lacks_is_lacking_among_the_few():
    train = tuple(key for key in WHOLE.train if CLASSES[key] != "b")
    fold = few_fold(replace(WHOLE, train=train), CLASSES, Few("percent", 20, 0))
    assert counts(fold.train) == {"a": 2, "c": 2}


@pytest.mark.parametrize(
    ("few", "message"),
    [
        (("shots", 16), "16 shots of every class.*only 15 of 'a'"),
        (("shots", 1), "1 shots.*take 2"),
        (("percent", 0), "more than 0 and at most 100, not 0"),
        (("percent", 101), "not 101"),
        (("percent", 1), "leave none for validation"),
        (("minutes", 1), "unknown unit 'minutes'.*percent, shots"),
    ],
)
def test_impossible_few_are_errors(few, message):
    with pytest.raises(SplitError, match=message):
        few_fold(WHOLE, CLASSES, Few(*few, 0))


@pytest.mark.parametrize("group", [*GROUPS, None])
def test_hold_out_keeps_groups_whole(group):
    rows = made_rows(60)
    for other in GROUPS:
        if other != group:
            rows = [replace(row, **{other: None}) for row in rows]
    stay, held = hold_out(rows)
    assert sorted((*stay, *held)) == [row.id for row in rows]
    assert VALIDATION_SHARE * 60 <= len(held) < VALIDATION_SHARE * 60 + 12  # a speaker's rows
    if group is not None:
        names = {row.id: getattr(row, group) for row in rows}
        assert not {names[key] for key in stay} & {names[key] for key in held}
    assert hold_out(random.Random(0).sample(rows, 60))[1] != ()
    assert set(hold_out(random.Random(0).sample(rows, 60))[1]) == set(held)


def test_one_of_two_speakers_is_tested_and_the_other_learnt_from(tmp_path):
    rows = [
        replace(row, session=None, dialogue=None, split="train" if row.speaker == "s0" else "test")
        for row in made_rows(60, speakers=2)
    ]
    with pytest.raises(SplitError, match=r"2 speakers cannot give .* JSON file, or give a split"):
        make_split(rows, "speaker")
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"train": ["s0"], "test": ["s1"]}))
    for scheme in (str(path), "official"):
        split = make_split(rows, scheme)
        (fold,) = split.folds
        assert {row.id for row in rows if row.speaker == "s1"} == {*fold.test}
        assert len(fold.train) > len(fold.validation) >= 3
        assert any("both in a training part and in its validation" in one for one in split.notes)


def test_hold_out_takes_spellings_of_one_name_for_one():
    rows = made_rows(60, speakers=6)
    spelt = [replace(row, speaker=f" {row.speaker.upper()}") for row in rows[::2]] + rows[1::2]
    assert {*hold_out(spelt)[1]} == {*hold_out(rows)[1]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_speakers_as_windows_saves_it(tmp_path, encoding):
    rows, path = made_rows(24, speakers=6), tmp_path / "list.json"
    path.write_text(json.dumps({"train": ["s0", "s1", "s2"], "test": ["s3"]}), encoding=encoding)
    assert len(make_split(rows, path).folds[0].test) == 4


def windows(step, parts=("train", "train", "dev", "test")):
    """Windows of 1 s of two recordings, of which the second has no times."""
    rows = [
        Utterance(f"mine/{n}", "mine", "anger", "a.wav", start=n * step, end=n * step + 1.0,
                  split=part)
        for n, part in enumerate(parts)
    ]  # fmt: skip
    others = [Utterance(f"mine/b{n}", "mine", "joy", f"{n}.wav", split=part)
              for n, part in enumerate(parts)]  # fmt: skip
    return rows + others


def test_windows_that_overlap_are_one_recording():
    assert make_split(windows(1.0), "official").leaks == ()
    assert make_split(windows(0.9), "official").leaks == ()  # turns that touch
    for step in (0.75, 0.25):
        with pytest.raises(SplitError, match=r"1 recordings stand both.*'mine/0' and 'mine/1'"):
            make_split(windows(step), "official")
    (leak,) = make_split(windows(0.5), "official", allow=("recording",)).leaks
    assert leak.startswith("1 recordings stand both in a test part")
    apart = [replace(row, audio=f"{row.id}.wav", content="absent") for row in windows(0.25)]
    assert make_split(apart, "official").leaks == ()  # recordings that are not here
    whole = Utterance("mine/all", "mine", "anger", "a.wav", split="train")
    with pytest.raises(SplitError, match="1 recordings stand both"):
        make_split([whole, *windows(1.0)], "official")
    tail = Utterance("mine/tail", "mine", "anger", "a.wav", start=5.0, split="test")
    with pytest.raises(SplitError, match="1 recordings stand both"):
        make_split([whole, tail, *windows(1.0)[4:]], "official")


@pytest.mark.parametrize("names", [("राम", "रीम", "रोम"), ("กิ", "กี", "กึ"), ("😀1", "😂1", "😎1")])
def test_names_in_every_script_are_distinguished(names):
    """Vowels of Indic scripts and Thai are marks in Unicode, and no punctuation."""
    rows = [replace(row, speaker=names[int(row.speaker[1:])]) for row in made_rows(36, 3)]
    split = make_split(rows, "speaker")
    assert sorted(fold.name for fold in split.folds) == sorted(f"speaker={name}" for name in names)
