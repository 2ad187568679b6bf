"""The dialogue around an utterance: what the encoder reads, in which order, and what it may not."""

import pickle
from copy import copy
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from made_corpora import make_iemocap, make_meld
from made_features import made_arrays, made_folder, made_rows, write_features
from multimodal_ser.cli import main
from multimodal_ser.corpora import iemocap, meld
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest
from multimodal_ser.dataset.material import load_material
from multimodal_ser.encoders import ENCODERS, load_encoder, load_for
from multimodal_ser.encoders.base import InContext
from multimodal_ser.encoders.pretrained_text import PretrainedText
from multimodal_ser.errors import EncoderError, FeatureError
from multimodal_ser.features import FeatureStore, extract
from multimodal_ser.features.content import doubt_of_order, in_context
from multimodal_ser.report import summarise, text_table
from multimodal_ser.report.layout import markdown_table

WORDS = ("Where is the ring?", "I lost it.", "You lost it!", "I am so sorry.", "It is fine.")


@pytest.fixture(scope="module")
def minilm():
    return ENCODERS["minilm"].load(None, "cpu")


def dialogue(words=WORDS, corpus="mine", name="d"):
    return [
        Utterance(
            f"{corpus}/{name}_utt{number}",
            corpus,
            ("anger", "joy")[number % 2],
            text=text,
            speaker=("Ann", "Bob")[number % 2],
            dialogue=name,
        )
        for number, text in enumerate(words)
    ]


def test_turns_follow_their_numbers_whatever_the_order_of_the_manifest():
    rows = dialogue(tuple(f"Turn {n}." for n in range(12)))
    shuffled = sorted(rows, key=lambda row: row.id)  # utt10 stands before utt2
    found = {row.id: row.text for row in in_context(shuffled, 2)}
    assert found["mine/d_utt10"] == "A: Turn 8. B: Turn 9. A: Turn 10."
    assert [row.id for row in in_context(shuffled, 2)] == [row.id for row in shuffled]


def test_letters_in_ids_do_not_decide_who_speaks_first():
    # RESD's ids end in the emotion's letter and the turn, others in the speaker's and the turn
    keys = ("h_000", "a_010", "h_020", "a_030")
    rows = [replace(one, id=f"mine/d_{k}") for one, k in zip(dialogue(), keys, strict=False)]
    found = {row.id: row.text for row in in_context(rows[::-1], 3)}
    words = dict(zip(keys, WORDS, strict=False))
    before = f"B: {words['h_000']} A: {words['a_010']} B: {words['h_020']}"
    assert found["mine/d_a_030"] == f"{before} A: {words['a_030']}"
    assert found["mine/d_h_000"] == f"A: {words['h_000']}"
    assert not doubt_of_order(rows)
    same = [replace(rows[1], id="mine/d_a_000"), *rows]
    assert "in 1 dialogue, such as that of 'mine/d_a_000' and" in doubt_of_order(same)
    assert not doubt_of_order([replace(row, start=float(n)) for n, row in enumerate(same)])


def test_turns_of_iemocap_follow_their_times(tmp_path):
    rows = iemocap.read_iemocap(make_iemocap(tmp_path).root).utterances
    turns = [row for row in rows if row.dialogue == rows[0].dialogue]
    turns.sort(key=lambda row: row.extra["dialogue_start"])
    found = {row.id: row.text for row in in_context(rows, 1)}
    for before, row in pairwise(turns):
        who = "A" if before.speaker == row.speaker else "B"
        assert found[row.id] == f"{who}: {before.text} A: {row.text}"


def test_a_dialogue_ends_where_another_begins(tmp_path):
    rows = meld.read_meld(make_meld(tmp_path).root).utterances
    for row, shown in zip(rows, in_context(rows, 50), strict=True):
        same = [one for one in rows if one.dialogue == row.dialogue]
        assert shown.text.count(": ") == 1 + same.index(row)


def test_an_utterance_of_no_dialogue_is_encoded_like_the_first_of_one(minilm):
    rows = [replace(dialogue()[0], id="mine/alone", dialogue=None), *dialogue()]
    alone, first, *_ = minilm([row.text for row in in_context(rows, 2)])
    np.testing.assert_allclose(alone, first, atol=1e-5)


def test_only_the_own_words_become_tokens_and_depend_on_the_context(minilm):
    rows = dialogue()
    shown = minilm([row.text for row in in_context(rows, 2)])
    for one, other in zip(minilm([row.text for row in rows]), shown, strict=True):
        assert len(other) == len(one) - 2  # without the marks of a sentence's ends
    other = [replace(rows[0], text="I baked a cake."), *rows[1:]]
    changed = minilm([row.text for row in in_context(other, 2)])
    same = [np.allclose(one, two, atol=1e-5) for one, two in zip(shown, changed, strict=True)]
    assert same == [False, False, False, True, True]


@pytest.mark.parametrize("with_space", [True, False])
def test_the_first_own_word_is_kept_whatever_a_tokenizer_counts_to_it(with_space):
    from tokenizers import Tokenizer, models, pre_tokenizers

    space = pre_tokenizers.Metaspace()  # as DeBERTa's: the span of a word begins with the space
    if not with_space:
        space = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    words = [(word, -1.0) for word in ("?", "▁A:", "▁B:", "▁Hi", "▁So")]
    pieces = Tokenizer(models.Unigram(words, 0))
    pieces.pre_tokenizer = space
    made = PretrainedText.__new__(PretrainedText)
    made.tokenizer, made.prefix = SimpleNamespace(is_fast=True), ""
    made._pieces = lambda texts, **_: {"offset_mapping": [pieces.encode(texts[0]).offsets]}
    text = InContext("B: Hi A: ", "So Hi", " B: Hi")
    frames = torch.arange(len(pieces.encode(text).tokens))[:, None]
    assert made._own(text, frames)[:, 0].tolist() == [3, 4]


def test_no_future_utterance_is_seen_unless_it_is_asked_for(minilm):
    rows = dialogue()
    other = [*rows[:4], replace(rows[4], text="Get out of here!")]
    for after, last in ((0, True), (1, False)):
        pair = (minilm([in_context(one, 3, after)[3].text])[0] for one in (rows, other))
        assert np.allclose(*pair, atol=1e-5) is last


def test_of_a_long_context_the_first_words_are_cut(minilm):
    rows = dialogue(("word " * 600, *WORDS[:2]))
    (frames,) = minilm([in_context(rows, 2)[2].text])
    (plain,) = minilm([rows[2].text])
    assert len(frames) == len(plain) - 2
    (shown,) = minilm([WORDS[0]])  # and a sentence alone is read as before
    assert len(shown) > 2


def test_a_context_that_leaves_no_room_for_the_own_words_is_an_error(minilm):
    rows = dialogue((WORDS[0], "word " * 600))
    with pytest.raises(EncoderError, match="leave none to its own; take a smaller --context-after"):
        minilm([in_context(rows, 0, 1)[0].text])


def test_a_copy_in_another_process_keeps_the_position_of_its_own_words():
    text = InContext("A: Hi! A: ", "So?", "")
    copied = pickle.loads(pickle.dumps(text))
    assert (copied, copied.own) == (text, (10, 13))


def test_features_in_context_have_a_name_and_a_mark_of_their_own(minilm, tmp_path):
    rows = dialogue()
    extract(rows, minilm, tmp_path, progress=False)
    made = extract(rows, minilm, tmp_path, context=(2, 0), progress=False)
    assert made.path.name == "minilm-context2.safetensors"
    header = FeatureStore.open(made.path).header
    assert (header.context, header.context_after, header.encoder) == (2, 0, "minilm")
    plain, shown = (
        load_material(tmp_path / "mine", class_set("anger,joy"), text=name)
        for name in ("minilm", "minilm-context2")
    )
    assert "the words of up to 2 utterances before are read too" in shown.marks
    assert (plain.features["text"].context, shown.features["text"].context) == (0, 2)
    assert [row.text for row in read_manifest(tmp_path / "mine" / "manifest.jsonl")] == [*WORDS]


def test_one_vector_in_context_is_the_mean_of_the_own_words(minilm, tmp_path):
    encoder = copy(minilm)
    encoder.info = replace(minilm.info, pool="first")  # as BERT, whose first token is [CLS]
    made = extract(
        dialogue(), encoder, tmp_path, tokens=1, dtype="float32", context=(2, 0), progress=False
    )
    frames = minilm([row.text for row in in_context(dialogue(), 2)])
    store = FeatureStore.open(made.path)
    assert store.header.pool == "mean"
    for row, own in zip(dialogue(), frames, strict=True):
        np.testing.assert_allclose(store[row.id][0], own.mean(0), atol=1e-5)


def test_features_from_before_there_was_a_context_have_none():
    shipped = files("multimodal_ser") / "demo" / "whisper-tiny.safetensors"
    header = FeatureStore.open(Path(str(shipped))).header
    assert (header.context, header.context_after) == (0, 0)


def test_changed_context_is_changed_content(minilm, tmp_path):
    rows = dialogue()
    made = extract(rows, minilm, tmp_path, context=(1, 0), progress=False)
    other = [replace(rows[0], text="I baked a cake."), *rows[1:]]
    write_manifest(other, tmp_path / "mine" / "manifest.jsonl")
    with pytest.raises(FeatureError, match="2 of its 5 utterances"):
        load_material(tmp_path / "mine", class_set("anger,joy"))
    again = extract(other, minilm, tmp_path, context=(1, 0), progress=False)
    assert again.path == made.path
    load_material(tmp_path / "mine", class_set("anger,joy"))


def test_a_prefix_stands_before_each_text_and_in_the_feature_file(minilm, tmp_path, capsys):
    asking = load_encoder("minilm", prefix="query: ")
    for given, wanted in zip(asking(WORDS), minilm([f"query: {w}" for w in WORDS]), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-5)
    write_manifest(dialogue(), tmp_path / "m.jsonl")
    given = ["extract", "--manifest", str(tmp_path / "m.jsonl"), "--text", "minilm", "--out"]
    given.append(str(tmp_path / "features"))
    half = ["--text-prefix", "query: ", "--text-dtype", "bfloat16"]
    assert main([*given, *half]) == 0
    store = FeatureStore.open(tmp_path / "features" / "mine" / "minilm.safetensors")
    assert (store.header.prefix, store.header.compute_dtype) == ("query: ", "bfloat16")
    wanted = asking([WORDS[0]])[0]
    own = store[store.ids[0]]
    assert own.shape == wanted.shape
    assert 0 < np.abs(own - wanted).max() < 0.1
    assert load_for(store.header, None, "cpu").prefix == "query: "
    assert main(given) == 1
    assert "prefix is 'query: ', asked for ''" in capsys.readouterr().err
    material = load_material(tmp_path / "features", class_set("anger,joy"), "none", "minilm")
    assert material.features["text"].prefix == "query: "


def test_what_cannot_be_read_in_context_is_said(minilm, tmp_path, capsys):
    alone = [replace(row, dialogue=None) for row in dialogue()]
    with pytest.raises(FeatureError, match="no utterance has a dialogue"):
        extract(alone, minilm, tmp_path, context=(2, 0))
    with pytest.raises(FeatureError, match="0 or more"):
        in_context(dialogue(), -1)
    write_manifest(alone, tmp_path / "alone.jsonl")
    command = ["extract", "--manifest", str(tmp_path / "alone.jsonl"), "--text", "minilm"]
    assert main([*command, "--context", "2", "--out", str(tmp_path)]) == 1
    assert "--context reads the words of a dialogue" in capsys.readouterr().err


def test_a_table_sets_each_context_beside_single_utterances_in_meld_s_own_score(tmp_path):
    rows = made_rows(64, speakers=4, words=("anger", "joy", "neutral", "sadness"), corpus="meld")
    folder = made_folder(tmp_path / "features", rows, ("text",), skill=0.4)
    better = made_arrays(rows, "text", skill=3.0)
    write_features(folder / "made-text-context3.safetensors", better, "text", context=3)
    command = ["train", "--features", str(folder), "--labels", "meld4", "--split", "speaker"]
    command += ["--folds", "4", "--model", "linear", "--baselines", "linear", "--jobs", "1"]
    for text in ("made-text", "made-text-context3"):
        assert main([*command, "--text", text, "--out", str(tmp_path / "runs")]) == 0
    summary = summarise(tmp_path / "runs")
    assert next(row.name for row in summary.rows).startswith("linear (context 3")
    assert summary.headline == "WF1"
    (against,) = [one for one in summary.versus if one.family.startswith("each context")]
    scores = {row.name: row.scores["WF1"].mean for row in summary.rows}
    assert against.difference == pytest.approx(scores[against.name] - scores[against.against])
    assert "WF1 points" in text_table(summary)
    assert markdown_table(summary).split("\n")[2].startswith("| model | parameters | seeds | WF1 |")
