"""A run's config.json and its typed record: the same both ways, or refused by name."""

import json

import pytest

from multimodal_ser.config.record import (
    ClassNames,
    FeatureSpec,
    FewSpec,
    Record,
    RunConfig,
    SavedAs,
    SourceSpec,
    SplitSpec,
    Training,
    as_json,
)
from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.errors import SerError
from multimodal_ser.runs.config_file import read_record

AUDIO = FeatureSpec("whisper-tiny", "ab" * 32, "2,3,4", 1, dim=1152, content="c0", pooled_from=32)
FEW = FewSpec("percent", 10, draw=2, count=14)
TRAININGS = {
    "network": Training(TrainConfig(epochs=3), ModelConfig(members=1)),
    "baseline": Training(TrainConfig(refit=False)),
    "tuned": Training(tune=TuneConfig(epochs=1)),
    "adapted": Training(network=ModelConfig(), adaptation=AdaptConfig("coral", 2.5)),
    "few": Training(network=ModelConfig(), parts="head", few=FEW),
    "balanced": Training(network=ModelConfig(), balanced=True),
}


def config(train=TRAININGS["network"], **more):
    source = SourceSpec(
        ("first",), SplitSpec("speaker", "50ce", fold="0"), features={"audio": AUDIO, "text": None}
    )
    return RunConfig(
        model="audio", seed=1, fold="speaker=01", labels=ClassNames("2", ("anger", "joy"), "1abe"),
        corpora=("second",), features={"audio": AUDIO, "text": None}, source=source,
        split=SplitSpec("speaker-5", "5eed", 5, leaks=("a leak",)), marks=("a mark",), train=train,
        **more,
    )  # fmt: skip


def written(path, found):
    path.write_text(json.dumps(found))
    return path


@pytest.mark.parametrize("name", TRAININGS)
def test_a_record_is_read_as_it_was_written(name, tmp_path):
    record = Record(config(TRAININGS[name]), 123, {"torch": "2.13"})
    again = read_record(written(tmp_path / "config.json", as_json(record)))
    assert again == record
    assert again.config.folder == record.config.folder


def test_a_saved_predictor_says_what_it_is_called(tmp_path):
    found = as_json(Record(config())) | {"predictor": {"name": "mine", "threshold": 0.4}}
    assert read_record(written(tmp_path / "c.json", found)).predictor == SavedAs("mine", 0.4)


def test_fields_left_out_of_the_file_are_left_out_of_the_hash():
    plain = as_json(config(TRAININGS["baseline"]))
    assert plain["train"] == {"class_weights": True, "refit": False}
    other = config(Training(TrainConfig(refit=False, epochs=9)))
    assert other.hash == config(TRAININGS["baseline"]).hash
    assert config(TRAININGS["few"]).hash != config(TRAININGS["adapted"]).hash
    assert "folds" not in plain["source"]["split"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop("seed"), r"lacks @ seed"),
        (lambda found: found["labels"].pop("classes"), r"lacks @ labels\.classes"),
        (lambda found: found["train"].update(lr=0.1), r"extra fields found \(lr\)"),
        (lambda found: found.update(seed="1"), r"'1' is no int @ seed"),
        (lambda found: found["train"]["network"].update(num_heads=5), r"not divisible"),
    ],
)
def test_a_record_of_another_version_is_refused_with_what_differs(change, said, tmp_path):
    found = as_json(Record(config()))
    change(found)
    with pytest.raises(SerError, match=f"(?s){said}.*another version.*run the command again"):
        read_record(written(tmp_path / "config.json", found))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_record_is_refused(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SerError, match=r"is not the config\.json of a run"):
        read_record(path)
    with pytest.raises(SerError, match=r"no run; give a folder that holds none\.json"):
        read_record(tmp_path / "none.json")
