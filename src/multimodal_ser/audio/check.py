"""manifest → check: opens every recording and lists what is wrong with it.

A bad file never stops the check: it becomes a `Finding`, and the next file is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from multimodal_ser.audio import audio_hash, audio_info, read_audio
from multimodal_ser.audio.fingerprints import copies, fingerprint
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.corpora.base import EMPTY, NO_FILE, fault
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.errors import AudioError, SerError

PROBLEMS = {
    "missing": "no file where the manifest says",
    "empty": "no samples",
    "unreadable": "cannot be decoded",
    "length": "the file contradicts its header, usually in its length",
    "too short": "shorter than `shortest`",
    "silent": "peak below `silence`",
    "clipped": "more than the share `clipped` of its samples at full scale",
    "rate": "its sample rate differs from the rest of its corpus, or is below 16 kHz",
    "duration": "its duration differs from the one in the corpus's table",
    "duplicate": "the same samples as an earlier utterance",
    "copy": "an earlier utterance again, but louder, trimmed, resampled or lossily compressed",
}

_FAULTS = {NO_FILE: "missing", EMPTY: "empty"}
# Tolerances of a recording's length, in seconds and as a share of the length in the corpus's table.
# Cutting at frames of a video, or at pauses, changes it by less.
_DURATION_SECONDS, _DURATION_SHARE = 1.0, 0.25
_FULL_SCALE = 0.999  # decoders and resamplers round slightly below full scale


@dataclass(frozen=True)
class Finding:
    """A problem of one recording.

    Attributes:
        id: the utterance's id; the corpus's name if all its recordings have a low rate.
        problem: a key of PROBLEMS.
        detail: what was found, in words.
    """

    id: str
    problem: str
    detail: str


@dataclass(frozen=True)
class _Examined:
    """The result of opening a recording; without hash and fingerprint it is not compared."""

    findings: list[Finding] = field(default_factory=list)
    rate: int | None = None
    samples_hash: str = ""
    fingerprint: str = ""


def check(
    utterances: Iterable[Utterance],
    *,
    shortest: float = 0.1,
    silence: float = -60.0,
    clipped: float = 0.001,
    workers: int = 2,
) -> list[Finding]:
    """Opens every recording of a manifest: findings in its order, then duplicates, copies, rates.

    Utterances without a recording (only words) are skipped.

    Args:
        utterances: from `read_manifest` or a corpus's reader.
        shortest: length in seconds below which an utterance is too short.
        silence: peak in dB of full scale below which it is silent.
        clipped: share of samples at full scale above which it is clipped.
        workers: number of recordings opened at a time; it does not change the result.

    Raises:
        SerError: a limit is out of range.
    """
    if not (shortest >= 0 and silence <= 0 and 0 <= clipped <= 1 and workers >= 1):
        raise SerError(
            f"shortest={shortest} s, silence={silence} dB, clipped={clipped}, workers={workers}; "
            "allowed: shortest of 0 or more, silence of 0 or less, clipped from 0 to 1, "
            "one worker or more"
        )
    opened = [row for row in utterances if row.audio is not None]
    with ThreadPoolExecutor(workers) as pool:
        examined = list(pool.map(lambda row: _examine(row, shortest, silence, clipped), opened))
    findings = [finding for one in examined for finding in one.findings]
    return (
        findings
        + _duplicates(opened, examined)
        + _copies(opened, examined)
        + _rates(opened, examined)
    )


def _examine(row: Utterance, shortest: float, silence: float, clipped: float) -> _Examined:
    path = Path(row.audio or "")
    rate, warnings = None, list[str]()
    try:
        if reason := fault(path):
            problem = _FAULTS.get(reason, "unreadable")
            return _Examined([Finding(row.id, problem, f"{path}: {reason}")])
        info = audio_info(path)
        rate = info.sample_rate
        if info.frames == 0:
            return _Examined([Finding(row.id, "empty", f"{path}: 0 samples")], rate)
        samples = read_audio(path, start=row.start, end=row.end, warn=warnings.append)
    except (AudioError, OSError) as error:
        return _Examined([Finding(row.id, "unreadable", str(error))], rate)
    findings = [Finding(row.id, "length", note) for note in warnings]
    findings += _check_samples(row.id, samples, shortest, silence, clipped)
    findings += _duration(row, samples)
    # All silent recordings of one length are equal, which does not make them duplicates.
    if any(finding.problem == "silent" for finding in findings):
        return _Examined(findings, rate)
    return _Examined(findings, rate, audio_hash(samples), fingerprint(samples))


def _check_samples(
    row_id: str, samples: Samples, shortest: float, silence: float, clipped: float
) -> list[Finding]:
    findings = []
    seconds = len(samples) / SAMPLE_RATE
    loudness = np.abs(samples)
    peak = float(loudness.max())
    share = float((loudness >= _FULL_SCALE).mean())
    if seconds < shortest:
        findings.append(Finding(row_id, "too short", f"{seconds:.3f} s, less than {shortest:g} s"))
    if peak < 10 ** (silence / 20):
        level = f"{20 * np.log10(peak):.1f} dB" if peak > 0 else "nothing but zeros"
        findings.append(Finding(row_id, "silent", f"peak {level}, below {silence:g} dB"))
    if share > clipped:
        findings.append(Finding(row_id, "clipped", f"{share:.2%} of samples at full scale"))
    return findings


def _duplicates(opened: list[Utterance], examined: list[_Examined]) -> list[Finding]:
    first: dict[str, str] = {}
    findings = []
    for row, one in zip(opened, examined, strict=True):
        if not one.samples_hash:
            continue
        earlier = first.setdefault(one.samples_hash, row.id)
        if earlier != row.id:
            findings.append(Finding(row.id, "duplicate", f"the same samples as {earlier}"))
    return findings


def _duration(row: Utterance, samples: Samples) -> list[Finding]:
    """Compares the length of a whole recording with the one in the corpus's table."""
    stated = row.extra.get("duration")
    if not isinstance(stated, int | float) or row.start is not None or row.end is not None:
        return []
    seconds = len(samples) / SAMPLE_RATE
    if abs(seconds - stated) <= max(_DURATION_SECONDS, _DURATION_SHARE * stated):
        return []
    return [Finding(row.id, "duration", f"{seconds:.1f} s, where the table says {stated:.1f} s")]


def _copies(opened: list[Utterance], examined: list[_Examined]) -> list[Finding]:
    by_id = {row.id: one for row, one in zip(opened, examined, strict=True)}
    pairs = copies({key: one.fingerprint for key, one in by_id.items()})
    first: dict[str, str] = {}
    for one, other in pairs:
        if by_id[one].samples_hash != by_id[other].samples_hash:
            first.setdefault(other, one)
    return [Finding(key, "copy", f"a copy of {first[key]}") for key in by_id if key in first]


def _rates(opened: list[Utterance], examined: list[_Examined]) -> list[Finding]:
    """Compares the stored rate of each recording with the most common one of its corpus."""
    rates: dict[str, Counter[int]] = {}
    for row, one in zip(opened, examined, strict=True):
        if one.rate is not None:
            rates.setdefault(row.corpus, Counter())[one.rate] += 1
    usual = {corpus: min(found, key=lambda r: (-found[r], r)) for corpus, found in rates.items()}
    findings = [
        Finding(corpus, "rate", f"recorded at {rate} Hz: nothing above {rate // 2} Hz is in it")
        for corpus, rate in sorted(usual.items())
        if rate < SAMPLE_RATE
    ]
    for row, one in zip(opened, examined, strict=True):
        if one.rate is not None and one.rate != usual[row.corpus]:
            others = f"{rates[row.corpus][usual[row.corpus]]} of {row.corpus}"
            detail = f"{one.rate} Hz, where {others} have {usual[row.corpus]} Hz"
            findings.append(Finding(row.id, "rate", detail))
    return findings
