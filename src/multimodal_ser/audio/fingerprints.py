"""decoded sound → a fingerprint; fingerprints → which recordings are copies of each other.

A copy that is louder, trimmed, resampled or went through a lossy codec has other samples, but its
spectrum changes over time in the same way. Each frame becomes 32 bits: whether the difference of
two neighbouring bands grew since the last frame (Haitsma & Kalker, 2002, "A Highly Robust Audio
Fingerprinting System"). Where two recordings agree in 18 bits of a frame they are aligned, and they
are copies if most bits agree along the overlap.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from multimodal_ser.common.arrays import Bools, Ints, Samples, Singles

_Codes = NDArray[np.uint32]

_RATE = 8_000  # Hz: the band that telephony leaves of a recording
_HOP = 256  # samples: 32 ms
_WINDOW = 1024  # samples: 128 ms
_BANDS = 33  # one more than bits: each bit compares two neighbouring bands
_LOW, _HIGH = 250.0, 3400.0  # Hz
_FLOOR = 1e-4  # share of the loudest frame's power: frames 40 dB below it are not compared
_LONGEST = 60  # seconds of a recording that are used
_KEY_BITS = (18, 26)  # bits that must agree in one frame to compare further; more in large corpora
_CROWD = 60  # frames: a key that more frames share says nothing
_NEAR = 16  # frames on either side that are compared first
_NEAR_DIFFERING = 0.36  # share of differing bits; looser than for the whole overlap
_AT_ONCE = 200_000  # pairs of frames that are compared at a time, which bounds the memory
_LEAST = 20  # frames of an overlap at least, 0.64 s
_SHARE = 0.5  # of the shorter recording's frames that must overlap
# Share of bits; chance is 0.5. Copies of EmoDB's recordings (louder, trimmed, mp3, Opus, 8 kHz,
# noise) differ in 0.23 at most, two takes of a sentence by one actor in 0.39 at least.
_MOST_DIFFERING = 0.3
_BITS = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)  # that are 1


def fingerprint(samples: Samples) -> str:
    """The fingerprint of 16 kHz samples, as text; empty if they are too short or too uniform.

    A constant sound, such as a tone, resembles itself at any offset and identifies nothing.
    """
    codes = _codes(samples)
    if np.count_nonzero(codes) < _LEAST or _is_even(codes):
        return ""
    return base64.b85encode(codes.astype("<u4").tobytes()).decode("ascii")


def _halved(samples: Samples) -> Singles:
    """Halves the rate, by the filter of scipy.signal.resample_poly; scipy may not be installed."""
    half = np.arange(-20, 21)
    low_pass = np.sinc(half / 2) * np.kaiser(41, 5.0)
    low_pass = (low_pass / low_pass.sum()).astype(np.float32)
    return np.convolve(samples, low_pass)[20:-20:2] if len(samples) else samples


def _codes(samples: Samples) -> _Codes:
    low = _halved(samples[: _LONGEST * 2 * _RATE])
    if len(low) < _WINDOW + _HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(low, _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    edges = np.geomspace(_LOW, _HIGH, _BANDS + 1) * _WINDOW / _RATE
    bands = np.add.reduceat(power, np.round(edges).astype(int), axis=1)[:, :_BANDS]
    # Signs only: gain and equalisation change the energies but hardly ever these differences.
    bits = np.diff(np.diff(bands, axis=1), axis=0) > 0
    codes = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    loud = bands.sum(1)
    audible = loud[1:] > _FLOOR * loud.max()
    return np.where(audible, np.maximum(codes, 1), 0).astype(np.uint32)  # 0 marks quiet frames


def _is_even(codes: _Codes) -> bool:
    """Whether frames so far apart that their windows do not overlap are alike."""
    step = _WINDOW // _HOP + 1
    audible = (codes[step:] > 0) & (codes[:-step] > 0)
    return not audible.any() or _differing(codes[step:], codes[:-step], audible) < _MOST_DIFFERING


def _differing(one: _Codes, other: _Codes, audible: Bools) -> float:
    """The share of bits that differ, over the frames where `audible` is true."""
    return float(_bits(one ^ other)[audible].mean()) / 32


def _bits(codes: _Codes) -> NDArray[np.uint8]:
    return _BITS[codes & 0xFFFF] + _BITS[codes >> 16]


def same_sounds(hashes: Mapping[str, str], prints: Mapping[str, str]) -> dict[str, str]:
    """Id → a name of its sound, which is equal for identical samples and for copies.

    Args:
        hashes: id → `audio_hash` of the samples.
        prints: id → `fingerprint`; ids may be missing, and fingerprints empty.
    """
    sounds = dict(hashes)
    for one, other in copies(prints):
        if one in sounds and other in sounds and sounds[one] != sounds[other]:
            new, old = sorted((sounds[one], sounds[other]))
            sounds.update({key: new for key, value in sounds.items() if value == old})
    return sounds


def copies(prints: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of ids, sorted, whose fingerprints are those of the same recording."""
    keys = [key for key, text in prints.items() if text]
    raw = (base64.b85decode(prints[key]) for key in keys)
    codes = [np.frombuffer(one, "<u4").astype(np.uint32) for one in raw]
    if len(codes) < 2:
        return []
    pairs = set()
    for first, second, lag in _alignments(codes):
        pair = (keys[first], keys[second])
        if pair not in pairs and not _overlap_differs(codes[first], codes[second], lag):
            pairs.add(pair)
    return sorted(pairs)


def _overlap_differs(one: _Codes, other: _Codes, lag: int) -> bool:
    """Whether two recordings differ where they overlap, or overlap too little.

    Args:
        one: codes of a recording.
        other: codes of another, whose first frame is `lag` frames after the first of `one`.
        lag: in frames; may be negative.
    """
    first, second = one[max(lag, 0) :], other[max(-lag, 0) :]
    length = min(len(first), len(second))
    first, second = first[:length], second[:length]
    audible = (first > 0) & (second > 0)
    shorter = min(np.count_nonzero(one), np.count_nonzero(other))
    if audible.sum() < max(_LEAST, _SHARE * shorter):
        return True
    return _differing(first, second, audible) > _MOST_DIFFERING


def _alignments(codes: list[_Codes]) -> Iterator[tuple[int, int, int]]:
    """Yields (first, second, lag) of recordings that agree in the frames around a common key."""
    # All codes in one array with gaps of zeros: a neighbourhood never reaches the next recording.
    gap = np.zeros(_NEAR, np.uint32)
    flat = np.concatenate([gap, *(part for one in codes for part in (one, gap))])
    lengths = np.array([len(one) for one in codes])
    starts = _NEAR + np.concatenate([[0], np.cumsum(lengths + _NEAR)[:-1]])
    owner = np.repeat(np.arange(len(codes)), lengths)
    at = np.concatenate(
        [start + np.arange(size) for start, size in zip(starts, lengths, strict=True)]
    )
    around = np.arange(-_NEAR, _NEAR + 1)
    seen = set()
    for one, other in _pairs_with_a_key(flat, at):
        different = owner[one] != owner[other]
        one, other = one[different], other[different]
        near = flat[at[one][:, None] + around], flat[at[other][:, None] + around]
        audible = (near[0] > 0) & (near[1] > 0)
        share = (_bits(near[0] ^ near[1]) * audible).sum(1) / (32 * np.maximum(audible.sum(1), 1))
        good = (share < _NEAR_DIFFERING) & (audible.sum(1) >= _NEAR)
        for left, right in zip(one[good].tolist(), other[good].tolist(), strict=True):
            first, second = int(owner[left]), int(owner[right])
            lag = int((at[left] - starts[first]) - (at[right] - starts[second]))
            if first > second:
                first, second, lag = second, first, -lag
            if (first, second, lag) not in seen:
                seen.add((first, second, lag))
                yield first, second, lag


def _pairs_with_a_key(flat: _Codes, at: Ints) -> Iterator[tuple[Ints, ...]]:
    """Yields pairs of positions in `at` whose frames share a key, in blocks."""
    audible = np.flatnonzero(flat[at])
    # Longer keys in larger corpora: otherwise unrelated frames would share keys by chance.
    bits = int(np.clip(np.log2(max(len(audible), 4) / 4), *_KEY_BITS))
    # Three parts of the code as keys: one of them is likely to survive errors in the other bits.
    for low in (0, (32 - bits) // 2, 32 - bits):
        key = (flat[at[audible]] >> low) & ((1 << bits) - 1)
        order = np.argsort(key, kind="stable")
        rows, key = audible[order], key[order]
        bounds = np.flatnonzero(np.diff(key)) + 1
        size = np.diff(np.concatenate([[0], bounds, [len(key)]]))
        crowded = np.repeat(size > _CROWD, size)
        rows, key = rows[~crowded], key[~crowded]
        # After sorting, frames with equal keys are adjacent: comparing at every distance gives all
        # pairs.
        for step in range(1, _CROWD):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            for begin in range(0, len(same), _AT_ONCE):
                part = same[begin : begin + _AT_ONCE]
                yield rows[part], rows[part + step]
