"""Class sets: their orders, the words of every corpus, and refused disagreements."""

import pytest

from made_corpora import CREMAD_EMOTIONS, IEMOCAP_LABELS, MAKERS, MELD_EMOTIONS
from multimodal_ser.corpora import CORPORA
from multimodal_ser.corpora.labels import (
    BUILT_IN_CORPORA,
    CLASS_SETS,
    ClassSet,
    check_same_order,
    class_set,
)
from multimodal_ser.errors import LabelError
from multimodal_ser.predict.prediction import FAILED, NO_SPEECH, UNCERTAIN

ORDERS = {
    "iemocap4": "anger happiness neutral sadness",
    "iemocap4-hap": "anger happiness neutral sadness",
    "iemocap6": "happiness sadness neutral anger excitement frustration",
    "cremad4": "anger happiness neutral sadness",
    "cremad6": "anger disgust fear happiness neutral sadness",
    "meld4": "anger happiness neutral sadness",
    "meld7": "anger disgust fear joy neutral sadness surprise",
    "emodb7": "anger boredom disgust fear happiness neutral sadness",
    "ravdess8": "neutral calm happiness sadness anger fear disgust surprise",
    "common4": "anger happiness neutral sadness",
    "common6": "anger disgust fear happiness neutral sadness",
}
BUILT_IN = sorted(BUILT_IN_CORPORA)


def test_every_class_set_has_its_order():
    assert {name: " ".join(one.classes) for name, one in CLASS_SETS.items()} == ORDERS


@pytest.mark.parametrize(("name", "corpus"), [(n, c) for n in ORDERS for c in CLASS_SETS[n].words])
def test_words_mean_classes_never_integers(name, corpus):
    words = CLASS_SETS[name].words[corpus]
    for word, meaning in words.items():
        assert isinstance(word, str)
        assert isinstance(meaning, str)
        assert CLASS_SETS[name].class_of(corpus, word) == meaning
        assert meaning in CLASS_SETS[name].classes
    assert set(words.values()) == set(CLASS_SETS[name].classes)


@pytest.mark.parametrize(
    ("name", "corpus", "words", "kept"),
    [
        ("iemocap4", "iemocap", IEMOCAP_LABELS, {"ang", "hap", "exc", "neu", "sad"}),
        ("iemocap4-hap", "iemocap", IEMOCAP_LABELS, {"ang", "hap", "neu", "sad"}),
        ("iemocap6", "iemocap", IEMOCAP_LABELS, {"hap", "sad", "neu", "ang", "exc", "fru"}),
        ("cremad4", "cremad", CREMAD_EMOTIONS, {"ANG", "HAP", "NEU", "SAD"}),
        ("cremad6", "cremad", CREMAD_EMOTIONS, set(CREMAD_EMOTIONS)),
        ("meld4", "meld", MELD_EMOTIONS, {"anger", "joy", "neutral", "sadness"}),
        ("meld7", "meld", MELD_EMOTIONS, set(MELD_EMOTIONS)),
    ],
)
def test_which_words_of_a_corpus_count(name, corpus, words, kept):
    known = class_set(name)
    assert {word for word in words if known.class_of(corpus, word)} == kept


def test_every_word_means_what_its_corpus_says():
    four = ("anger", "happiness", "neutral", "sadness")
    six = {"DIS": "disgust", "FEA": "fear"}
    rest = {"calm": "calm", "fearful": "fear", "disgust": "disgust", "surprised": "surprise"}
    own = {
        corpus: dict(zip(words.split(), four, strict=True))
        for corpus, words in {
            "iemocap": "ang hap neu sad", "cremad": "ANG HAP NEU SAD", "emodb": "W F N T",
            "meld": "anger joy neutral sadness", "ravdess": "angry happy neutral sad",
        }.items()
    }  # fmt: skip
    merged = {**own["iemocap"], "exc": "happiness"}
    assert CLASS_SETS["common4"].words == {**own, "iemocap": merged}
    assert CLASS_SETS["cremad6"].words["cremad"] == own["cremad"] | six
    assert CLASS_SETS["ravdess8"].words["ravdess"] == own["ravdess"] | rest
    more = {"L": "boredom", "E": "disgust", "A": "fear"}
    assert CLASS_SETS["emodb7"].words["emodb"] == own["emodb"] | more
    more = {"exc": "excitement", "fru": "frustration"}
    assert CLASS_SETS["iemocap6"].words["iemocap"] == own["iemocap"] | more
    assert all(word == name for word, name in CLASS_SETS["meld7"].words["meld"].items())


def test_excitement_is_happiness_only_in_the_fields_standard():
    meanings = {
        name: CLASS_SETS[name].class_of("iemocap", "exc") for name in ORDERS if "ie" in name
    }
    assert meanings == {"iemocap4": "happiness", "iemocap4-hap": None, "iemocap6": "excitement"}


@pytest.mark.parametrize("corpus", BUILT_IN)
def test_the_common_set_and_its_own_set_cover_every_corpus(corpus, tmp_path):
    made = MAKERS[corpus](tmp_path)
    words = {row.emotion for row in CORPORA[corpus].read(made.root).utterances}
    for name in ("common4", CORPORA[corpus].labels):
        CLASS_SETS[name].check_covers(corpus, words)
        assert {CLASS_SETS[name].class_of(corpus, word) for word in words} - {None} == set(
            CLASS_SETS[name].classes
        )


def test_words_that_miss_a_class_are_an_error_with_both_orders():
    with pytest.raises(LabelError) as caught:
        CLASS_SETS["cremad6"].check_covers("cremad", {"ANG", "DIS", "HAP", "NEU", "SAD"})
    message = str(caught.value)
    assert "['anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness']" in message
    assert "['anger', 'disgust', 'happiness', 'neutral', 'sadness']" in message
    assert "--labels" in message


def test_a_set_whose_words_miss_a_class_or_reach_another_cannot_be_made():
    with pytest.raises(LabelError, match=r"'fear'\].*reach \['anger'\]"):
        ClassSet("bad", ("anger", "fear"), {"mine": {"a": "anger"}})
    with pytest.raises(LabelError, match="'joy'"):
        ClassSet("bad", ("anger", "fear"), {"mine": {"a": "anger", "f": "fear", "j": "joy"}})


@pytest.mark.parametrize("classes", [(), ("anger",), ("anger", "fear", "anger")])
def test_a_set_needs_distinct_classes(classes):
    with pytest.raises(LabelError, match="two or more distinct"):
        ClassSet("bad", classes, {})


@pytest.mark.parametrize("name", [UNCERTAIN, "Uncertain ", NO_SPEECH, FAILED, "sad, quiet"])
def test_a_class_is_told_from_what_is_of_no_class(name):
    with pytest.raises(LabelError, match=rf"has a class '{name}'; predictions have uncertain, no"):
        ClassSet("bad", ("anger", name), {})
    if "," not in name:
        with pytest.raises(LabelError, match=r"such as unclear, or leave it out"):
            class_set(f"anger,{name}")


def test_a_corpus_without_a_mapping_is_refused_and_its_sets_are_named():
    with pytest.raises(LabelError) as caught:
        CLASS_SETS["meld7"].class_of("cremad", "ANG")
    message = str(caught.value)
    assert "'meld7'" in message
    assert "'cremad'" in message
    assert "cremad4, cremad6, common4, common6" in message


def test_the_originals_swap_is_caught():
    swapped = ClassSet("swapped", ("anger", "happiness", "sadness", "neutral"), {})
    with pytest.raises(LabelError) as caught:
        check_same_order(CLASS_SETS["cremad4"], swapped)
    assert "['anger', 'happiness', 'neutral', 'sadness']" in str(caught.value)
    assert "['anger', 'happiness', 'sadness', 'neutral']" in str(caught.value)


def test_equal_orders_agree_whatever_their_names():
    for name in ("iemocap4-hap", "cremad4", "meld4", "common4"):
        check_same_order(CLASS_SETS["iemocap4"], CLASS_SETS[name])


def test_a_table_uses_class_names_in_the_given_order():
    mine = class_set(" joy, anger ,calm")
    assert mine.classes == ("joy", "anger", "calm")
    assert mine.class_of("mine", "fear") is None
    assert [mine.class_of("mine", word) for word in ("calm", "JOY ")] == ["calm", "joy"]
    both = class_set("joy,Joy")  # one of two alike is not guessed
    assert [both.class_of("mine", word) for word in ("joy", "Joy", "JOY")] == ["joy", "Joy", None]
    with pytest.raises(LabelError, match="'calm'"):
        mine.check_covers("mine", {"joy", "anger", "fear"})


def test_an_unknown_class_set_names_the_known_ones():
    with pytest.raises(LabelError) as caught:
        class_set("emodb8")
    assert "'emodb8'" in str(caught.value)
    assert all(name in str(caught.value) for name in CLASS_SETS)
    assert "comma list" in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "corpus", "words"),
    [
        ("sadness,anger", "emodb", {"W": "anger", "T": "sadness"}),
        ("anger,happiness", "iemocap", {"ang": "anger", "hap": "happiness", "exc": "happiness"}),
        ("happiness,excitement", "iemocap", {"hap": "happiness", "exc": "excitement"}),
        ("joy,fear", "meld", {"joy": "joy", "fear": "fear"}),
        ("neutral,happiness", "meld", {"joy": "happiness", "neutral": "neutral"}),
        ("calm,anger", "ravdess", {"calm": "calm", "angry": "anger"}),
    ],
)
def test_a_list_of_some_classes_of_a_corpus_means_what_its_class_set_says(listed, corpus, words):
    chosen = class_set(listed)
    assert chosen.classes == tuple(listed.split(","))
    assert chosen.words[corpus] == words
    with pytest.raises(
        LabelError, match=r"does not say what the words.*or list some of the classes"
    ):
        class_set("anger,gloom").class_of(corpus, "anger")
