"""frames [T, D] → tokens [at most `tokens`, D], which a feature file stores of an utterance."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from multimodal_ser.common.arrays import Array
from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.errors import FeatureError, one_of

ModalityName: TypeAlias = Literal["audio", "text"]
Pool: TypeAlias = Literal["mean", "first"]

_POOLS = ("mean", "first")
KEPT_TOKENS: dict[ModalityName, int] = {
    "audio": 32,
    "text": 64,
}  # what is kept unless asked otherwise


def pool_frames(frames: Array, tokens: int) -> Array:
    """Averages frames over equal spans of time.

    Args:
        frames: array of shape [T, D] with T ≥ 1.
        tokens: largest number of spans; 1 gives the mean of all frames.

    Returns:
        Float32 array of shape [min(T, tokens), D]; with at most `tokens` frames, the frames
        themselves.

    >>> pool_frames(np.array([[1.0], [3.0], [5.0], [9.0]]), 2).tolist()
    [[2.0], [7.0]]
    """
    count = min(len(frames), tokens)
    # Whole-number edges: spans differ by one frame at most, and none is empty. Sums are in double
    # precision, so that long recordings lose nothing.
    edges = np.arange(count + 1) * len(frames) // count
    sums = np.add.reduceat(frames, edges[:-1], axis=0, dtype=np.float64)
    return (sums / np.diff(edges)[:, None]).astype(np.float32)


def keep_tokens(frames: Array, modality: ModalityName, tokens: int, pool: Pool) -> Array:
    """Reduces an utterance's frames to at most `tokens` rows: float32 [min(T, tokens), D].

    Frames of sound are averaged over equal spans; word pieces stay as they are, and the last ones
    are cut off. A single token is the pooled vector that the original used: the mean, or the first
    row ([CLS]) for encoders with such a token.

    Args:
        frames: array of shape [T, D] with T ≥ 1.
        modality: ``audio`` or ``text``.
        tokens: largest number of rows, 1 or more.
        pool: ``mean`` or ``first``; only used for a single token.

    >>> keep_tokens(np.array([[1.0], [2.0], [6.0]]), "text", 2, "mean").tolist()
    [[1.0], [2.0]]
    >>> keep_tokens(np.array([[1.0], [2.0], [6.0]]), "text", 1, "mean").tolist()
    [[3.0]]
    """
    if (tokens == 1 and pool == "first") or (tokens > 1 and modality == "text"):
        return np.ascontiguousarray(frames[:tokens], dtype=np.float32)
    return pool_frames(frames, tokens)


def is_cut(frames: int, tokens: int, most: int) -> bool:
    """Whether only the beginning of a text is read.

    Args:
        frames: word pieces that its encoder reads.
        tokens: largest number of rows that are kept, see `keep_tokens`.
        most: word pieces that the encoder reads at most; 0 if that is not known. A text of just so
            many counts as cut, too.

    >>> is_cut(70, 64, 512), is_cut(70, 1, 512), is_cut(512, 1, 512)
    (True, False, True)
    """
    return 1 < tokens < frames or 0 < most <= frames


def as_stored(frames: Array, modality: ModalityName, spec: FeatureSpec) -> Array:
    """Frames [T, D] → the tokens that a run on features of this specification reads.

    Rounded as in the feature file, before any mean: the same steps in the same order.
    """
    kept = keep_tokens(frames, modality, spec.pooled_from or spec.tokens, spec.pool)
    kept = kept.astype(spec.dtype).astype(np.float32)
    return kept.mean(0, keepdims=True) if spec.pooled_from else kept


def check_pooling(tokens: int, pool: str) -> None:
    """Raises FeatureError unless `tokens` is 1 or more and `pool` is one of POOLS."""
    if tokens < 1:
        raise FeatureError(
            f"tokens={tokens} a modality; allowed: 1 (one pooled vector) or more, such as 32"
        )
    if pool not in _POOLS:
        raise FeatureError(one_of("pool", pool, _POOLS))
