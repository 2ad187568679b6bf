"""Feature files: what they hold, what is refused, and what is kept of an utterance."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from multimodal_ser.encoders.base import Exposure
from multimodal_ser.errors import FeatureError
from multimodal_ser.features import (
    FeatureHeader,
    FeatureStore,
    feature_path,
    pool_frames,
    write_store,
)
from multimodal_ser.features.store import differences

DIM = 3
HEADER = FeatureHeader(corpus="made", encoder="fake", modality="audio", dim=DIM, rate=100.0,
                       weights="ab12", layers="1,2", tokens=4)  # fmt: skip


def items(count=3):
    noise = np.random.default_rng(1)
    return [(f"made/{n}", noise.normal(size=(n % 3 + 1, DIM)).astype("f4")) for n in range(count)]


@pytest.mark.parametrize(("dtype", "close"), [("float16", 1e-3), ("float32", 0)])
def test_what_is_written_is_read_by_us_and_by_safetensors(tmp_path, dtype, close):
    path = tmp_path / "a" / "fake.safetensors"
    header = replace(
        HEADER, dtype=dtype, failures={"made/x": "é"}, audio_hashes={"made/0": "cd"},
        exposure={"made": Exposure("no", "says who")},
    )  # fmt: skip
    write_store(path, header, iter(items()))
    store, theirs = FeatureStore.open(path), load_file(path)
    assert store.header == header
    assert store.audio_hashes == {"made/0": "cd"}
    assert list(store.ids) == [key for key, _ in items()]
    assert set(theirs) == set(store.ids)
    assert len(store) == 3
    assert "made/0" in store
    assert "made/9" not in store
    for key, array in items():
        assert store[key].dtype == np.float32
        np.testing.assert_allclose(store[key], array, rtol=close)
        np.testing.assert_array_equal(store[key], theirs[key].astype(np.float32))
    assert [file.name for file in path.parent.iterdir()] == ["fake.safetensors"]


def test_the_same_items_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_store(tmp_path / name, HEADER, items())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((1, DIM), 7e4), "--dtype float32"),
        (np.full((1, DIM), np.nan), "NaN"),
        (np.full((1, DIM), np.inf), "infinite"),
        (np.ones((1, DIM + 1)), r"\[1, 4\]"),
        (np.ones((0, DIM)), r"\[0, 3\]"),
        (np.ones(DIM), r"\[3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, array, says):
    with pytest.raises(FeatureError, match=says):
        write_store(tmp_path / "f", HEADER, [("made/0", array)])
    assert not list(tmp_path.iterdir())


def test_large_values_fit_float32(tmp_path):
    header = replace(HEADER, dtype="float32")
    write_store(tmp_path / "f", header, [("made/0", np.full((1, DIM), 7e4))])
    assert FeatureStore.open(tmp_path / "f")["made/0"].max() == 7e4


def test_an_id_twice_is_refused(tmp_path):
    with pytest.raises(FeatureError, match="unique"):
        write_store(tmp_path / "f", HEADER, items() + items())


def test_every_cut_and_other_files_are_refused(tmp_path):
    path = tmp_path / "f"
    write_store(path, HEADER, items())
    whole = path.read_bytes()
    for cut in [0, 4, 8, 50, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(FeatureError, match="again"):
            FeatureStore.open(path)
    for content in [whole + b"x", b"RIFF" * 100, b"\0" * 100, whole.replace(b'"F16"', b'"F99"')]:
        path.write_bytes(content)
        with pytest.raises(FeatureError):
            FeatureStore.open(path)
    with pytest.raises(FeatureError, match="ser extract"):
        FeatureStore.open(tmp_path / "absent")


def test_damaged_headers_are_refused_whatever_is_changed(tmp_path):
    path = tmp_path / "f"
    write_store(path, HEADER, items())
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    noise = np.random.default_rng(2)
    for _ in range(300):
        changed = bytearray(whole)
        changed[noise.integers(length + 8)] = noise.integers(256)
        path.write_bytes(bytes(changed))
        try:
            store = FeatureStore.open(path)
        except FeatureError:
            continue
        assert all(store[key].shape[1] == store.header.dim for key in store.ids)


def test_other_safetensors_files_and_later_formats_are_refused(tmp_path):
    path = tmp_path / "f"
    save_file({"a": np.ones(3)}, path)
    with pytest.raises(FeatureError, match="no feature file"):
        FeatureStore.open(path)
    write_store(path, replace(HEADER, version=99), items())
    with pytest.raises(FeatureError, match=r"format 99.*format 1"):
        FeatureStore.open(path)


def test_a_mismatch_shows_both_settings(tmp_path):
    write_store(tmp_path / "f", HEADER, items())
    store = FeatureStore.open(tmp_path / "f")
    assert not differences(store.header, {"tokens": 4, "encoder": "fake", "weights": "ab12"})
    said = differences(store.header, {"tokens": 32, "weights": "ff"})
    assert said == "tokens is 4, asked for 32, weights is 'ab12', asked for 'ff'"
    with pytest.raises(FeatureError, match="manifest"):
        store["made/99"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a:b", "ü", "a b"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(FeatureError, match="file name"):
        feature_path(Path("out"), name, "fake")
    with pytest.raises(FeatureError, match="file name"):
        feature_path(Path("out"), "made", name)


@pytest.mark.parametrize("length", [1, 5, 31, 32, 33, 100, 1500])
def test_pooling_covers_every_frame_in_nearly_equal_spans(length):
    frames = np.random.default_rng(0).normal(size=(length, 2)).astype("f4")
    pooled = pool_frames(frames, 32)
    assert pooled.shape == (min(length, 32), 2)
    if length <= 32:
        np.testing.assert_allclose(pooled, frames, rtol=1e-6)
    parts = np.array_split(np.arange(length), pooled.shape[0])
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    np.testing.assert_allclose(pool_frames(frames, 1)[0], frames.mean(0), atol=1e-5)
