"""What encoders were trained on: claims have sources; emotion labels can be refused."""

import json
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise

import pytest

from made_encoders import tiny
from made_features import made_folder, made_rows
from made_sound import tone, written
from multimodal_ser.cli import main
from multimodal_ser.corpora import CORPORA, write_manifest
from multimodal_ser.encoders import ENCODERS, load_encoder
from multimodal_ser.encoders.base import Exposure
from multimodal_ser.encoders.exposure import (
    claim_about,
    claims,
    published,
    refuse_emotion_trained,
    with_stated,
)
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.errors import EncoderError
from multimodal_ser.features import FeatureStore


def test_every_claim_is_whole_and_has_a_source():
    assert sorted(one.name for one in claims() if one.name) == sorted(ENCODERS)
    hubs = [one.hub for one in claims() if one.hub]
    assert len(set(hubs)) == len(hubs)
    for one in claims():
        assert "*" in one.seen.corpora
        for claim in (*one.seen.corpora.values(), one.seen.emotion_labels):
            assert claim.saw in ("labels", "unlabelled", "no", "unknown")
            assert len(claim.source) > 30
        saw = {claim.saw for claim in one.seen.corpora.values()}
        if "labels" in saw:  # labels of one corpus are emotion labels
            assert one.seen.emotion_labels.saw == "labels"
        for sha256 in one.sha256:
            assert len(bytes.fromhex(sha256)) == 32


def test_the_claims_are_about_the_pinned_weights():
    file = files("multimodal_ser.encoders") / "exposure.json"
    entries = {one["name"]: one for one in json.loads(file.read_text("utf-8"))["encoders"]}
    for name, home in WEIGHT_SOURCES.items():
        assert (entries[name]["hub"], entries[name]["revision"]) == (home.hub, home.revision or "")
        if home.offline:
            assert home.offline.sha256 in entries[name]["sha256"]


def test_emotion2vec_base_was_trained_on_what_its_paper_lists():
    seen = published("emotion2vec-base")
    unlabelled = {k for k, claim in seen.corpora.items() if claim.saw == "unlabelled"}
    assert unlabelled == {"iemocap", "meld", "cmu-mosei", "mead", "msp-podcast"}
    assert seen.corpora["*"].saw == "no"
    assert "table 1" in seen.corpora["*"].source
    assert published("emotion2vec-plus-seed").corpora["turev-db"].saw == "labels"


def test_what_saw_a_corpus_saw_most_of_one_that_contains_it():
    claims_of = {"emodb": Exposure("labels", "stated"), "*": Exposure("no", "stated")}
    assert claim_about("emodb2", claims_of).saw == "labels"
    assert claim_about("ravdess", claims_of).saw == "no"


def test_podcasts_and_videos_of_the_web_may_be_those_of_a_corpus():
    saw = {
        one.hub: {name: claim.saw for name, claim in one.seen.corpora.items()} for one in claims()
    }
    wavlm, xlsr = saw["microsoft/wavlm-large"], saw["facebook/wav2vec2-xls-r-300m"]
    assert (wavlm["msp-podcast"], wavlm["cmu-mosei"], wavlm["*"]) == ("unknown", "unknown", "no")
    assert (xlsr.get("msp-podcast", xlsr["*"]), xlsr["cmu-mosei"]) == ("no", "unknown")


@pytest.mark.parametrize(
    ("name", "saw"), [("emotion2vec-plus-large", "labels"), ("bert", "no"), ("whisper-base", "no")]
)
def test_published_encoders_are_told_apart(name, saw):
    claim = published(name).emotion_labels
    assert claim.saw == saw
    if saw == "no":
        refuse_emotion_trained(name, claim)
    else:
        with pytest.raises(EncoderError, match=r"was trained on emotion labels.*another encoder"):
            refuse_emotion_trained(name, claim)


def test_weights_are_known_by_their_hash_and_by_their_page(tmp_path, monkeypatch):
    folder = tiny("wav2vec2", tmp_path)
    assert load_encoder("mine", folder).info.emotion_labels.saw == "unknown"
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(folder))
    info = load_encoder("facebook/wav2vec2-large").info
    assert (info.emotion_labels.saw, info.exposure["*"].saw) == ("no", "no")
    info = load_encoder("superb/wav2vec2-base-superb-er").info
    assert (info.emotion_labels.saw, info.exposure["iemocap"].saw) == ("labels", "labels")
    monkeypatch.setattr("multimodal_ser.encoders.weights._sha256", lambda *a: claims()[5].sha256[0])
    assert load_encoder("mine", folder).info.emotion_labels == claims()[5].seen.emotion_labels


def test_what_a_card_and_a_configuration_tell_counts_against_unknown_weights(tmp_path):
    folder = tiny("wav2vec2", tmp_path)
    card = folder / "README.md"
    card.write_text("---\ndatasets:\n- someone/CREMA-D\n- librispeech\n---\n# It\n")
    info = load_encoder("mine", folder).info
    assert claim_about("cremad", info.exposure).saw == "labels"
    assert info.emotion_labels == claim_about("cremad", info.exposure)
    assert claim_about("meld", info.exposure).saw == "unknown"
    card.write_text("---\ndatasets: my-emotions\n---\n")
    info = load_encoder("mine", folder).info
    with pytest.raises(EncoderError, match=r"--trained-on My_Emotions=no: README.md beside the"):
        with_stated(info, ["My_Emotions=no"])
    assert claim_about("meld", with_stated(info, ["meld=no"]).exposure).saw == "no"
    config = json.loads((folder / "config.json").read_text())
    for names, saw in ((["neu", "hap", "ang", "sad"], "labels"), (["a", "b"], "unknown")):
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {name: place for place, name in enumerate(names)}
        (folder / "config.json").write_text(json.dumps(config))
        assert load_encoder("mine", folder).info.emotion_labels.saw == saw
    # each list holds the one before it ten times: written out, the last is of 10^14 characters
    lists = [f"{b}: &{b} [{', '.join(10 * [f'*{a}'])}]" for a, b in pairwise("abcdefghijklmno")]
    bomb = "\n".join(["---", "a: &a x", *lists, "datasets: [*o]", "---", ""])
    broken = ("---\n: [\n---\n", "---\n- a\n---\n", "no head", "---\ndatasets: 7\n---\n")
    for damaged in (*broken, bomb):
        card.write_text(damaged)
        assert claim_about("cremad", load_encoder("mine", folder).info.exposure).saw == "unknown"


def test_the_commands_refuse_what_may_have_seen_emotions(tmp_path, capsys):
    rows = []
    for place in range(2):
        file = written(tmp_path / f"{place}.wav", tone(0.2, hertz=300 + 100 * place))
        rows.append(replace(made_rows(1)[0], id=f"mine/{place}", audio=str(file)))
    manifest, out = tmp_path / "mine.jsonl", tmp_path / "features"
    write_manifest(rows, manifest)
    extract = ["extract", "--manifest", str(manifest), "--out", str(out), "--audio", "own"]
    extract += ["--audio-source", str(tiny("wav2vec2", tmp_path)), "--forbid-emotion-trained"]
    assert main(extract) == 1
    assert "--trained-on emotions=no" in capsys.readouterr().err
    assert main([*extract, "--trained-on", "emotions=no", "mine=unlabelled"]) == 0
    [path] = out.glob("*/own.safetensors")
    header = FeatureStore.open(path).header
    assert (header.emotion_labels.saw, header.exposure["mine"].saw) == ("no", "unlabelled")


def test_training_refuses_features_of_what_may_have_seen_emotions(tmp_path, capsys):
    made_folder(tmp_path / "features", made_rows(48, speakers=4), ("audio",))
    train = ["train", "--features", str(tmp_path / "features"), "--labels", "common4", "--split"]
    train += ["speaker", "--out", str(tmp_path / "runs"), "--forbid-emotion-trained"]
    assert main(train) == 1
    assert "may have been trained on emotion labels" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_training_corpora_have_the_names_of_our_readers():
    by_emobox = {"casia", "emns", "enterface", "m3ed", "mer2023", "oreau", "pavoque", "polish"}
    named = {corpus for one in claims() if "emotion2vec" in one.name for corpus in one.seen.corpora}
    assert named - by_emobox - {"*"} <= set(CORPORA)
