"""Chunks of a manifest → parts of a feature file, in parallel on threads or on a Ray cluster.

The utterances of a chunk are decoded, batched by length, encoded, and reduced to tokens.

An utterance that fails at any step is left out with its reason, and the rest continues. The result
of a chunk depends only on the recipe and its utterances, not on where it is made.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from typing import Any

import numpy as np

from multimodal_ser.audio import audio_hash, read_audio
from multimodal_ser.audio.fingerprints import fingerprint
from multimodal_ser.common.arrays import Array
from multimodal_ser.common.cluster import run_on_ray, run_on_threads
from multimodal_ser.common.devices import is_gpu
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.base import Encoder, packed
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.features.pool import ModalityName, is_cut, keep_tokens
from multimodal_ser.features.store import STORED_DTYPES, FeatureHeader, check_array

ENGINES = ("local", "ray")
_CHARACTERS_A_SECOND = 15  # of speech: puts the lengths of texts and recordings on one scale
_HELD = 512.0  # seconds of decoded sound that are in memory and sorted by length together
_ENCODER_FAULTS = (SerError, RuntimeError, ValueError)  # RuntimeError: torch, on inputs too short
_Numbered = tuple[int, Sequence[Utterance]]


@dataclass
class Chunk:
    """Decoded utterances: id → waveform or sentence; `failures`: id → reason."""

    items: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExtractionRecipe:
    """How utterances become tokens.

    Attributes:
        encoder: makes frames of the utterances.
        header: of the feature file, with its settings.
        batch_seconds: length of a batch including its padding, in seconds.
    """

    encoder: Encoder
    header: FeatureHeader
    batch_seconds: float


@dataclass
class EncodedChunk:
    """The result of a chunk.

    Attributes:
        arrays: id → tokens of shape [at most `tokens`, dim], as they are stored.
        failures: id → reason why it has no tokens.
        hashes: id → sha256 of the decoded samples.
        prints: id → `fingerprint` of the decoded samples, which copies share.
        truncated: utterances whose last words were cut.
        seconds: of sound; 0 for text.
    """

    arrays: dict[str, Array] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    prints: dict[str, str] = field(default_factory=dict)
    truncated: int = 0
    seconds: float = 0.0


def make_part(recipe: ExtractionRecipe, chunk: _Numbered) -> tuple[int, EncodedChunk]:
    """Makes the tokens of a numbered chunk; only few recordings are in memory at a time."""
    (number, rows), made = chunk, EncodedChunk()
    most = max(_HELD, recipe.batch_seconds)
    for loaded in load_chunks(rows, recipe.header.modality, most):
        _encode(recipe, loaded, made)
    return number, made


def _encode(recipe: ExtractionRecipe, loaded: Chunk, made: EncodedChunk) -> None:
    made.failures |= loaded.failures
    if recipe.header.modality == "audio":
        made.seconds += sum(loaded.seconds.values())
    for keys in batches_by_length(loaded.seconds, recipe.batch_seconds):
        # popped, so that the memory of a recording is free as soon as it is encoded
        results = _encode_batch(recipe.encoder, [loaded.items.pop(key) for key in keys])
        _keep_batch(recipe, keys, results, made)
    made.hashes |= {key: value for key, value in loaded.hashes.items() if key in made.arrays}
    made.prints |= {key: value for key, value in loaded.prints.items() if key in made.arrays}


def has_material(row: Utterance, modality: ModalityName) -> bool:
    """Whether an utterance has words (for text) or a recording (for audio)."""
    return bool((row.text or "").strip()) if modality == "text" else row.audio is not None


def load_chunks(rows: Sequence[Utterance], modality: ModalityName, most: float) -> Iterator[Chunk]:
    """Decodes rows, about `most` seconds at a time; a row that cannot be decoded is a failure."""
    chunk = Chunk()
    for row in rows:
        if modality == "text":
            _load_text(row, chunk)
        else:
            _load_audio(row, chunk)
        if sum(chunk.seconds.values()) >= most:
            yield chunk
            chunk = Chunk()
    yield chunk


def _load_text(row: Utterance, chunk: Chunk) -> None:
    if not has_material(row, "text"):
        chunk.failures[row.id] = "it has no words"
        return
    text = row.text or ""
    chunk.items[row.id], chunk.seconds[row.id] = text, len(text) / _CHARACTERS_A_SECOND


def _load_audio(row: Utterance, chunk: Chunk) -> None:
    if row.audio is None:
        chunk.failures[row.id] = "it has no recording"
        return
    try:
        samples = read_audio(row.audio, start=row.start, end=row.end)
    except (SerError, OSError) as error:
        chunk.failures[row.id] = str(error)
        return
    chunk.items[row.id], chunk.seconds[row.id] = samples, len(samples) / SAMPLE_RATE
    chunk.hashes[row.id] = audio_hash(samples)
    chunk.prints[row.id] = fingerprint(samples)


def batches_by_length(seconds: Mapping[str, float], budget: float) -> Iterator[list[str]]:
    """Ids sorted by length, in batches whose longest item times their size is within the budget."""
    # The id breaks ties, so that the same utterances always meet in the same batches.
    ordered = sorted(seconds, key=lambda key: (seconds[key], key))
    return packed(ordered, lambda batch, key: seconds[key] * (len(batch) + 1) > budget)


def _encode_batch(encoder: Encoder, items: list[Any]) -> list[Array | str]:
    """Frames of each item or a reason why it has none; items of a failed batch are tried alone."""
    try:
        frames = encoder(items)
    except _ENCODER_FAULTS as error:
        if len(items) == 1:
            return [str(error) or type(error).__name__]
        return [_encode_batch(encoder, [item])[0] for item in items]
    if not hasattr(frames, "__len__") or len(frames) != len(items):
        given = len(frames) if hasattr(frames, "__len__") else "no"
        raise FeatureError(
            f"{encoder.info.name!r} gave {given} results for {len(items)} items; an encoder "
            "gives one array per item"
        )
    return [frame if isinstance(frame, str) else _as_array(frame) for frame in frames]


def _as_array(frames: Any) -> Array:
    """Frames as encoders of users give them, such as bfloat16 on a GPU with gradients."""
    if hasattr(frames, "detach"):  # torch's tensors
        frames = frames.detach().cpu()
        frames = frames.float() if frames.is_floating_point() else frames.numpy()
    return np.asarray(frames)


def _keep_batch(
    recipe: ExtractionRecipe, keys: list[str], results: list[Array | str], made: EncodedChunk
) -> None:
    """Adds the tokens of a batch, or the reasons why there are none, and counts texts cut short."""
    header = recipe.header
    most = getattr(recipe.encoder, "most_pieces", 0)  # that it reads of a text
    for key, frames in zip(keys, results, strict=True):
        if isinstance(frames, str):
            made.failures[key] = frames
            continue
        try:
            check_array(key, frames, replace(header, dtype="float32"))
        except FeatureError as error:
            made.failures[key] = str(error).removeprefix(f"{key}: ")  # which is listed with it
            continue
        tokens = keep_tokens(frames, header.modality, header.tokens, header.pool)
        check_array(key, tokens, header)  # not caught: values beyond float16 mean a wrong setting
        made.arrays[key] = tokens.astype(STORED_DTYPES[header.dtype][1])
        made.truncated += header.modality == "text" and is_cut(len(frames), header.tokens, most)


def make_parts(
    recipe: ExtractionRecipe, chunks: Sequence[_Numbered], engine: str, threads: int | None
) -> Generator[tuple[int, EncodedChunk], None, None]:
    """Makes the part of every chunk; all engines give the same bytes.

    Args:
        recipe: encoder and settings.
        chunks: number and utterances of each.
        engine: one of ENGINES.
        threads: number of chunks at a time on this machine; None for torch's number of threads.

    Yields:
        The number of each chunk and its part, in order of completion.
    """
    on_gpu = is_gpu(str(getattr(recipe.encoder, "device", "cpu")))
    if engine == "ray":
        yield from run_on_ray(make_part, recipe, chunks, gpus=int(on_gpu))
        return
    stop = Event()
    guarded = replace(recipe, encoder=_Guarded(recipe.encoder, on_gpu, stop))
    yield from run_on_threads(make_part, guarded, chunks, threads=threads, stop=stop)


class _Stopped(Exception):  # noqa: N818 - an end, no error
    """Raised in threads when no more results are wanted."""


class _Guarded:
    """An encoder that several threads share, and that can be stopped between two batches.

    Sentences' first batch is encoded alone: tokenizers set up padding and truncation in their first
    call and fail if another call comes in between; a user's encoder may do the like. A GPU always
    gets one batch at a time, while the other threads decode.
    """

    def __init__(self, encoder: Encoder, on_gpu: bool, stop: Event) -> None:
        self.info, self._encoder, self._stop = encoder.info, encoder, stop
        self.most_pieces = getattr(encoder, "most_pieces", 0)
        self._alone, self._on_gpu = Lock(), on_gpu
        self._settled = self.info.modality == "audio" and not self.info.code

    def __call__(self, items: Any) -> Any:
        together = self._settled and not self._on_gpu
        with nullcontext() if together else self._alone:
            if self._stop.is_set():
                raise _Stopped
            found = self._encoder(items)
            self._settled = True
            return found
