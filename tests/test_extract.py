"""Extraction: what is stored, what fails and why, and what a second call does."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from made_encoders import tiny
from multimodal_ser.common import devices
from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.corpora.utterance import Utterance, read_manifest
from multimodal_ser.encoders import base, load_encoder, load_for
from multimodal_ser.encoders.base import EncoderInfo, Exposure
from multimodal_ser.errors import EncoderError, FeatureError
from multimodal_ser.features import FeatureHeader, FeatureStore, extract, pool_frames
from multimodal_ser.features.chunks import (
    ExtractionRecipe,
    batches_by_length,
    load_chunks,
    make_part,
)

DIM = 3


def info(modality="audio", **changes):
    seen = {"made": Exposure("labels", "a test says so")}
    return replace(EncoderInfo("fake", modality, DIM, 100.0, "ab12", "1,2", seen), **changes)


class FakeEncoder:
    """One frame per 160 samples (or per word); items and sentences with a marker fail."""

    def __init__(self, **changes):
        self.info = info(**changes)
        self.batches = []

    def __call__(self, items):
        self.batches.append(len(items))
        if any("BAD" in item if isinstance(item, str) else len(item) == 777 for item in items):
            raise EncoderError("a bad item")
        return [self.encode(item) for item in items]

    def encode(self, item):
        if isinstance(item, str):
            return np.array([[len(word), 1.0, 2.0] for word in item.split()], dtype=np.float32)
        frames = item[: len(item) // 160 * 160].reshape(-1, 160)
        return np.stack([frames.mean(1), frames.max(1), frames.std(1)], axis=1)


class Stops(FakeEncoder):
    """Is interrupted after so many batches."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def __call__(self, items):
        if len(self.batches) == self.after:
            raise KeyboardInterrupt
        return super().__call__(items)


def made_corpus(folder: Path, count: int = 10, samples: int = 1600) -> list[Utterance]:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0)
    rows = []
    for number in range(count):
        path = folder / f"{number:02d}.wav"
        sound = noise.uniform(-0.5, 0.5, samples + 320 * (number % 4))
        soundfile.write(path, sound, 16_000, subtype="PCM_16")
        rows.append(Utterance(f"made/{number:02d}", "made", "joy", str(path), f"word {number} x"))
    return rows


def test_extraction_keeps_what_the_encoder_gives(tmp_path):
    rows = made_corpus(tmp_path / "wav")
    result = extract(rows, FakeEncoder(), tmp_path / "out", tokens=4, dtype="float32")
    assert result.path == tmp_path / "out" / "made" / "fake.safetensors"
    assert (result.done, result.failures) == (10, {})
    store = FeatureStore.open(result.path)
    assert list(store.ids) == [row.id for row in rows]
    assert store.header.exposure == info().exposure
    assert len(set(store.audio_hashes.values())) == 10
    samples = soundfile.read(rows[3].audio, dtype="float32")[0]
    expected = pool_frames(FakeEncoder().encode(samples), 4)
    np.testing.assert_allclose(store["made/03"], expected, rtol=1e-6)
    assert read_manifest(result.path.parent / "manifest.jsonl") == rows
    assert sorted(file.name for file in result.path.parent.iterdir()) == [
        "fake.safetensors",
        "manifest.jsonl",
    ]


def test_failures_are_listed_and_the_rest_is_kept(tmp_path):
    rows = made_corpus(tmp_path / "wav")
    Path(rows[1].audio).unlink()
    Path(rows[2].audio).write_bytes(b"no sound")
    soundfile.write(rows[4].audio, np.ones(777) * 0.1, 16_000)  # the encoder fails on it
    rows[5] = replace(rows[5], audio=None)
    rows[6] = replace(rows[6], start=5.0, end=6.0)
    result = extract(rows, FakeEncoder(), tmp_path / "out", chunk=4)
    store = FeatureStore.open(result.path)
    assert list(result.failures) == [rows[i].id for i in (1, 2, 4, 5, 6)]
    assert "01.wav" in result.failures["made/01"]
    assert result.failures["made/04"] == "a bad item"
    assert list(store.ids) == [rows[i].id for i in (0, 3, 7, 8, 9)]
    assert list(store.audio_hashes) == list(store.ids)
    with pytest.raises(FeatureError, match="bad item"):
        store["made/04"]


def test_nan_from_an_encoder_is_a_failure_and_overflow_ends_the_run(tmp_path):
    class Broken(FakeEncoder):
        value = np.nan

        def encode(self, item):
            return super().encode(item) * (self.value if len(item) == 1600 else 1)

    rows = made_corpus(tmp_path / "wav", 4)
    assert list(extract(rows, Broken(), tmp_path / "a").failures) == ["made/00"]
    Broken.value = 1e7
    with pytest.raises(FeatureError, match="--dtype float32"):
        extract(rows, Broken(), tmp_path / "b")
    assert extract(rows, Broken(), tmp_path / "b", dtype="float32").done == 4


def test_nothing_is_written_where_everything_fails(tmp_path):
    rows = [replace(row, audio="/nowhere/a.wav") for row in made_corpus(tmp_path / "wav", 3)]
    with pytest.raises(FeatureError, match=r"3 utterances, and all failed.*made/00"):
        extract(rows, FakeEncoder(), tmp_path / "out")
    assert not list((tmp_path / "out" / "made").iterdir())


def test_words_are_kept_as_tokens_and_the_last_ones_cut(tmp_path):
    rows = made_corpus(tmp_path / "wav", 4)
    rows[1] = replace(rows[1], text="a bb ccc dddd eeeee")
    rows[2] = replace(rows[2], text=" ")
    rows[3] = replace(rows[3], text="BAD")
    result = extract(rows, FakeEncoder(modality="text"), tmp_path / "out", tokens=3)
    store = FeatureStore.open(result.path)
    assert store["made/01"][:, 0].tolist() == [1, 2, 3]
    assert result.truncated == store.header.truncated == 1
    assert result.failures == {"made/02": "it has no words", "made/03": "a bad item"}
    assert not store.audio_hashes
    pooled = extract(rows, FakeEncoder(modality="text"), tmp_path / "mean", tokens=1)
    assert FeatureStore.open(pooled.path)["made/01"].tolist() == [[3, 1, 2]]
    first = extract(rows, FakeEncoder(modality="text", pool="first"), tmp_path / "cls", tokens=1)
    assert FeatureStore.open(first.path)["made/01"].tolist() == [[1, 1, 2]]
    assert first.truncated == 0
    short = FakeEncoder(modality="text")
    short.most_pieces = 5  # what it reads of a text: it may have been longer
    assert extract(rows, short, tmp_path / "short", tokens=1).truncated == 1


@pytest.mark.parametrize(("modality", "lacks"), [("text", "words"), ("audio", "recordings")])
def test_a_corpus_without_what_the_encoder_reads_is_one_error(tmp_path, modality, lacks):
    rows = [Utterance("made/0", "made", "joy"), Utterance("made/1", "made", "joy")]
    with pytest.raises(FeatureError, match=lacks):
        extract(rows, FakeEncoder(modality=modality), tmp_path)


def test_several_corpora_repeated_ids_and_odd_settings_are_refused(tmp_path):
    rows = made_corpus(tmp_path / "wav", 2)
    with pytest.raises(FeatureError, match="2 corpora"):
        extract([*rows, Utterance("b/0", "b", "joy")], FakeEncoder(), tmp_path)
    with pytest.raises(FeatureError, match="twice"):
        extract([*rows, *rows], FakeEncoder(), tmp_path)
    with pytest.raises(FeatureError, match="tokens=0"):
        extract(rows, FakeEncoder(), tmp_path, tokens=0)


def test_batches_stay_within_their_budget():
    seconds = {f"{n:02d}": float(n % 7 + 1) for n in range(40)}
    made = list(batches_by_length(seconds, 12.0))
    assert sorted(key for batch in made for key in batch) == sorted(seconds)
    assert all(len(b) == 1 or max(seconds[k] for k in b) * len(b) <= 12 for b in made)
    assert len(made) < 25


def test_a_recording_is_sorted_with_few_others_at_a_time(tmp_path):
    """However long the recordings of a chunk are, some batches' worth of sound is held."""
    rows = made_corpus(tmp_path / "wav", 12, samples=16_000)
    held = [len(c.items) for c in load_chunks(rows, "audio", 3.0)]
    assert (sum(held), max(held)) == (12, 3)
    whole = extract(rows, FakeEncoder(), tmp_path / "a", batch_seconds=0.1)
    assert list(FeatureStore.open(whole.path).ids) == [row.id for row in rows]


def test_parts_hold_what_the_file_will(tmp_path):
    rows = made_corpus(tmp_path / "wav", 2)
    header = FeatureHeader(corpus="made", encoder="fake", modality="audio", dim=DIM, rate=100.0,
                       weights="ab12", layers="1,2", tokens=4)  # fmt: skip
    _, made = make_part(ExtractionRecipe(FakeEncoder(), header, 8.0), (0, rows))
    assert {array.dtype.str for array in made.arrays.values()} == {"<f2"}
    assert made.seconds == pytest.approx((1600 + 1920) / 16_000)


def test_an_unknown_engine_is_refused_before_anything_is_written(tmp_path):
    rows = made_corpus(tmp_path / "wav", 2)
    with pytest.raises(FeatureError, match="unknown engine 'spark'; choose one of: local, ray"):
        extract(rows, FakeEncoder(), tmp_path / "out", engine="spark")
    assert not (tmp_path / "out").exists()


def test_a_stopped_extraction_ends_after_the_batch(tmp_path):
    """One thread meets an interrupt; the others do not go on to the end of their chunks."""
    rows, calls = made_corpus(tmp_path / "wav", 40), []

    class Stops(FakeEncoder):
        def __call__(self, items):
            calls.append(len(items))
            if len(calls) == 3:
                raise KeyboardInterrupt
            time.sleep(0.05)
            return super().__call__(items)

    with pytest.raises(KeyboardInterrupt):
        extract(rows, Stops(), tmp_path / "out", chunk=20, batch_seconds=0.1, threads=2)
    assert len(calls) < 15


class Inside(FakeEncoder):
    """Notes how many threads are inside with each batch."""

    def __init__(self, device, **changes):
        super().__init__(**changes)
        self.device, self.inside, self.most = device, 0, []

    def __call__(self, items):
        self.inside += 1
        for _ in range(20):
            time.sleep(0.002)
            most = self.inside
        self.most.append(most)
        self.inside -= 1
        return super().__call__(items)


def test_a_gpu_is_given_one_batch_at_a_time(tmp_path):
    rows, encoder = made_corpus(tmp_path / "wav", 12), Inside("cuda:0")
    assert extract(rows, encoder, tmp_path / "out", chunk=2, threads=4).done == 12
    assert encoder.most == [1] * 6


def test_a_batch_is_as_long_as_the_encoder_asks(tmp_path):
    """emotion2vec on a GPU takes minutes of sound at once; 32 s leave the GPU waiting."""
    rows = made_corpus(tmp_path / "wav", 12)
    short, given, usual = FakeEncoder(), FakeEncoder(), FakeEncoder()
    short.batch_seconds = given.batch_seconds = 0.1
    extract(rows, short, tmp_path / "short")
    extract(rows, given, tmp_path / "given", batch_seconds=32)
    extract(rows, usual, tmp_path / "usual")
    assert len(short.batches) > len(usual.batches) == len(given.batches)
    assert load_encoder("emotion2vec-base", tiny("emotion2vec-base", tmp_path)).batch_seconds == 32


def test_threads_share_a_users_encoder_after_its_first_batch(tmp_path):
    rows, encoder = made_corpus(tmp_path / "wav", 24), Inside("cpu", code="0123456789abcdef")
    extract(rows, encoder, tmp_path / "out", chunk=2, threads=4)
    assert encoder.most[0] == 1
    assert max(encoder.most) > 1


def test_several_cores_encode_a_small_corpus(tmp_path):
    """Also from the first batch on: of two dozen recordings there may be no other."""
    both = threading.Barrier(2, timeout=60)

    class Meet(FakeEncoder):
        def __call__(self, items):
            both.wait()  # raises where no other thread comes
            return super().__call__(items)

    encoder = Meet()
    extract(made_corpus(tmp_path / "wav", 24), encoder, tmp_path / "out", threads=2)
    assert encoder.batches == [12, 12]


def test_numbers_of_another_format_do_not_mix(tmp_path):
    class Half(FakeEncoder):
        dtype = torch.bfloat16

    rows = made_corpus(tmp_path / "wav", 3)
    path = extract(rows, Half(), tmp_path).path
    assert FeatureStore.open(path).header.compute_dtype == "bfloat16"
    with pytest.raises(FeatureError, match="compute_dtype is 'bfloat16', asked for 'float32'"):
        extract(rows, FakeEncoder(), tmp_path)


def test_a_format_that_a_device_lacks_is_replaced_with_a_warning(tmp_path, caplog):
    weights = tiny("wav2vec2", tmp_path)
    known = load_encoder("wav2vec2", weights)
    spec = FeatureSpec("wav2vec2", known.info.weights, known.info.layers, compute_dtype="float16")
    assert load_for(spec, weights, "cpu").dtype == torch.float32
    assert "computed in float16, and it computes in float32 on cpu" in caplog.text
    caplog.clear()
    assert load_for(replace(spec, compute_dtype="bfloat16"), weights, "cpu").dtype == torch.bfloat16
    assert load_for(replace(spec, compute_dtype="float32"), weights, "cpu").dtype == torch.float32
    assert "computed in" not in caplog.text


def test_a_file_from_before_the_format_was_noted_is_still_read(tmp_path):
    rows = made_corpus(tmp_path / "wav", 3)
    path = extract(rows, FakeEncoder(), tmp_path).path
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    text = whole[8 : 8 + length].replace(rb"\"compute_dtype\": \"float32\", ", b"")
    assert len(text) < length
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    assert FeatureStore.open(path).header.compute_dtype == "float32"
    again = FakeEncoder()
    extract(rows, again, tmp_path)
    assert again.batches == []


@pytest.mark.parametrize(
    ("flags", "native"), [("fma avx512_bf16", True), ("asimd bf16", True), ("avx512f sse2", False)]
)
def test_bfloat16_is_the_default_where_the_processor_has_it(tmp_path, monkeypatch, flags, native):
    info = tmp_path / "cpuinfo"
    info.write_text(f"model name : bf160\nflags : fpu {flags} vme\n")
    assert devices.native_bfloat16(info) is native
    assert not devices.native_bfloat16(tmp_path / "absent")
    monkeypatch.setattr(base, "native_bfloat16", lambda: native)
    expected = "bfloat16" if native else None
    assert base.default_dtype("emotion2vec-plus-large", "cpu") == expected
    assert base.default_dtype("emotion2vec-plus-large", "cuda") is None
    assert base.default_dtype("whisper-tiny", "cpu") is None
