"""One chunk of a manifest: decoded, put into batches by length, encoded, brought down to tokens.

An utterance that fails anywhere on this way is left out with its reason, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from multimodal_ser.audio import SAMPLE_RATE, audio_hash, read_audio
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.features.pool import Array, Modality, keep_tokens
from multimodal_ser.features.store import FeatureHeader, check_array

_CHARACTERS_A_SECOND = 15  # of speech; puts sentences and recordings on one scale
_ENCODER_FAULTS = (SerError, RuntimeError, ValueError)  # RuntimeError: torch, on inputs too short


@dataclass
class Chunk:
    """Decoded utterances: id → waveform or sentence; `failures`: id → reason."""

    items: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def has_material(row: Utterance, modality: Modality) -> bool:
    """Whether an utterance has words (for text) or a recording (for audio)."""
    return bool((row.text or "").strip()) if modality == "text" else row.audio is not None


def load_chunk(rows: Sequence[Utterance], modality: Modality) -> Chunk:
    """Decodes a chunk; what cannot be decoded is a failure with its reason."""
    chunk = Chunk()
    for row in rows:
        if modality == "text":
            _load_text(row, chunk)
        else:
            _load_audio(row, chunk)
    return chunk


def _load_text(row: Utterance, chunk: Chunk) -> None:
    if not has_material(row, "text"):
        chunk.failures[row.id] = "it has no words"
        return
    text = str(row.text)
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


def batches(seconds: Mapping[str, float], budget: float) -> Iterator[list[str]]:
    """Ids sorted by length, cut where the longest times their number would pass the budget."""
    batch: list[str] = []
    for key in sorted(seconds, key=lambda key: (seconds[key], key)):
        if batch and seconds[key] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch


def encode_batch(encoder: Encoder, items: list[Any]) -> list[Array | str]:
    """Frames of each item, or why it has none; where a batch fails, only the culprit does."""
    try:
        frames = encoder(items)
    except _ENCODER_FAULTS as error:
        if len(items) == 1:
            return [str(error) or type(error).__name__]
        return [encode_batch(encoder, [item])[0] for item in items]
    if len(frames) != len(items):
        raise FeatureError(
            f"{encoder.info.name!r} gave {len(frames)} results for {len(items)} items; an encoder "
            "gives one array per item"
        )
    return list(frames)


def keep_batch(
    keys: list[str],
    results: list[Array | str],
    header: FeatureHeader,
    arrays: dict[str, Array],
    failures: dict[str, str],
) -> int:
    """Puts kept tokens into `arrays` and reasons into `failures`; returns how many were cut."""
    truncated = 0
    for key, frames in zip(keys, results, strict=True):
        if isinstance(frames, str):
            failures[key] = frames
            continue
        try:
            check_array(key, frames, replace(header, dtype="float32"))
        except FeatureError as error:
            failures[key] = str(error)
            continue
        arrays[key] = keep_tokens(frames, header.modality, header.tokens, header.pool)
        check_array(key, arrays[key], header)  # too large for float16: the setting's fault
        truncated += header.modality == "text" and 1 < header.tokens < len(frames)
    return int(truncated)
