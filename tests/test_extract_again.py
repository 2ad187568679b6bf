"""Extraction into a folder that holds features: kept, made again, or discarded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal_ser.errors import EncoderError, FeatureError
from multimodal_ser.features import FeatureStore, extract, write_store
from test_extract import FakeEncoder, Stops, made_corpus


def test_a_finished_file_is_kept_and_other_settings_show_both(tmp_path):
    rows, out = made_corpus(tmp_path / "wav", 4), tmp_path / "out"
    path = extract(rows, FakeEncoder(), out).path
    before, again = path.read_bytes(), FakeEncoder()
    extract(rows, again, out)
    assert again.batches == []
    for changes in [{"tokens": 1}, {"dtype": "float32"}]:
        with pytest.raises(FeatureError, match=r"asked for.*--overwrite"):
            extract(rows, FakeEncoder(), out, **changes)
    with pytest.raises(FeatureError, match="weights is 'ab12', asked for 'ff'"):
        extract(rows, FakeEncoder(weights="ff"), out)
    with pytest.raises(FeatureError, match="another manifest"):
        extract(rows[:3], FakeEncoder(), out)
    assert path.read_bytes() == before
    assert extract(rows, FakeEncoder(), out, tokens=1, overwrite=True).done == 4
    assert FeatureStore.open(path).header.tokens == 1


def test_failures_are_tried_again_only_when_asked(tmp_path):
    class Fails(FakeEncoder):
        def __call__(self, items):
            if any(len(item) == 2240 for item in items):
                raise EncoderError("too little memory")
            return super().__call__(items)

    rows, out = made_corpus(tmp_path / "wav", 6), tmp_path / "out"
    assert list(extract(rows, Fails(), out).failures) == ["made/02"]
    assert list(extract(rows, FakeEncoder(), out).failures) == ["made/02"]
    encoder = FakeEncoder()
    result = extract(rows, encoder, out, retry_failed=True)
    assert (result.failures, encoder.batches) == ({}, [1])
    whole = extract(rows, FakeEncoder(), tmp_path / "whole")
    assert whole.path.read_bytes() == result.path.read_bytes()


def test_changed_recordings_are_encoded_again_and_that_is_said(tmp_path, caplog):
    rows, out = made_corpus(tmp_path / "wav", 8), tmp_path / "out"
    first = extract(rows, FakeEncoder(), out, chunk=2).path.read_bytes()
    samples, rate = soundfile.read(rows[5].audio, dtype="int16")
    samples[700] += 1
    soundfile.write(rows[5].audio, samples, rate, subtype="PCM_16")
    Path(rows[1].audio).write_bytes(b"")
    encoder = FakeEncoder()
    result = extract(rows, encoder, out, chunk=2)
    assert "2 of 8 recordings have changed since it was made" in caplog.text
    assert sum(encoder.batches) == 3  # their chunks, without the one that cannot be read
    assert list(result.failures) == ["made/01"]
    assert result.path.read_bytes() != first
    fresh = extract(rows, FakeEncoder(), tmp_path / "fresh", chunk=2)
    assert fresh.path.read_bytes() == result.path.read_bytes()


def test_changed_words_are_encoded_again(tmp_path):
    rows, out = made_corpus(tmp_path / "wav", 4), tmp_path / "out"
    extract(rows, FakeEncoder(modality="text"), out, tokens=2)
    rows[1] = replace(rows[1], text="quite other words")
    again = extract(rows, FakeEncoder(modality="text"), out, tokens=2)
    fresh = extract(rows, FakeEncoder(modality="text"), tmp_path / "fresh", tokens=2)
    assert again.path.read_bytes() == fresh.path.read_bytes()
    assert again.truncated == 4


def test_parts_of_recordings_that_changed_meanwhile_are_discarded(tmp_path):
    rows, out = made_corpus(tmp_path / "wav", 8), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract(rows, Stops(2), out, chunk=2)
    soundfile.write(rows[0].audio, np.full(1600, 0.25), 16_000, subtype="PCM_16")
    resumed = extract(rows, FakeEncoder(), out, chunk=2)
    fresh = extract(rows, FakeEncoder(), tmp_path / "fresh", chunk=2)
    assert resumed.path.read_bytes() == fresh.path.read_bytes()


def test_a_file_that_noted_no_recordings_is_made_again(tmp_path, caplog):
    rows, out = made_corpus(tmp_path / "wav", 3), tmp_path / "out"
    path = extract(rows, FakeEncoder(), out).path
    store = FeatureStore.open(path)
    write_store(path, replace(store.header, inputs={}), [(key, store[key]) for key in store.ids])
    again = FakeEncoder()
    extract(rows, again, out)
    assert "3 of 3 recordings were not noted when it was made" in caplog.text
    assert sum(again.batches) == 3
    assert len(FeatureStore.open(path).header.inputs) == 3


def test_left_over_parts_of_other_settings_are_discarded(tmp_path, caplog):
    rows, out = made_corpus(tmp_path / "wav", 8), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        extract(rows, Stops(2), out, chunk=2)
    parts = out / "made" / ".fake.parts"
    assert len(list(parts.glob("*.safetensors"))) == 2
    (parts / "000001.safetensors").write_bytes(b"damaged")
    encoder = FakeEncoder()
    with caplog.at_level("INFO"):
        extract(rows, encoder, out, chunk=2)
    assert "resuming: 2 of 8" in caplog.text
    assert encoder.batches == [2, 2, 2]
    with pytest.raises(KeyboardInterrupt):
        extract(rows, Stops(2), tmp_path / "b", chunk=2)
    with caplog.at_level("INFO"):
        extract(rows, FakeEncoder(), tmp_path / "b", chunk=2, tokens=2)
    assert "discarding" in caplog.text
