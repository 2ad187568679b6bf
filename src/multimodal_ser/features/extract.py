"""manifest.jsonl → audio → encoders → features/<corpus>/<encoder>.safetensors, resumable.

The manifest is cut into chunks. Each chunk becomes a part file that is complete or absent, and the
parts are merged at the end. After an interruption the next call resumes and gives the same bytes:
batches never cross chunks, so the same utterances are always in the same batches.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from multimodal_ser.common.files import locked
from multimodal_ser.corpora.utterance import Utterance, check_utterances
from multimodal_ser.encoders.base import BATCH_SECONDS, Encoder, computed_in
from multimodal_ser.errors import FeatureError, counted, one_of
from multimodal_ser.features.chunks import ENGINES, ExtractionRecipe, has_material, make_parts
from multimodal_ser.features.content import (
    changed,
    check_numbers,
    digest,
    doubt_of_order,
    in_context,
    inputs_of,
    keep_manifest,
    with_content,
)
from multimodal_ser.features.parts import Parts, merge_parts, progress_bar, work_folder
from multimodal_ser.features.pool import KEPT_TOKENS, Pool, check_pooling
from multimodal_ser.features.store import FeatureHeader, FeatureStore, differences, feature_path

_log = logging.getLogger(__name__)
_CHUNK = 64  # utterances, at most

_SETTINGS = (
    "corpus", "encoder", "modality", "dim", "weights", "layers", "tokens", "pool", "dtype",
    "compute_dtype", "prefix", "code",
)  # fmt: skip


@dataclass(frozen=True)
class ExtractionResult:
    """The result of an extraction.

    Attributes:
        path: the feature file.
        done: utterances with features.
        failures: id → reason, for utterances without features.
        truncated: utterances whose last words were cut.
        repeated: utterances with exactly the same sound as an earlier one.
    """

    path: Path
    done: int
    failures: Mapping[str, str]
    truncated: int = 0
    repeated: Sequence[str] = ()


def extract(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    out: Path,
    *,
    tokens: int | None = None,
    dtype: str | None = None,
    pool: Pool | None = None,
    chunk: int | None = None,
    batch_seconds: float | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: bool = True,
    engine: str = "local",
    threads: int | None = None,
    context: tuple[int, int] = (0, 0),
) -> ExtractionResult:
    """Encodes all utterances of a corpus into one feature file, with their manifest beside it.

    A finished file that was made with the same settings from the same recordings (or words) is kept
    as it is; its failures are only tried again with `retry_failed`. If some recordings have changed
    under the same ids, their chunks are encoded again, and this is logged. Utterances that fail are
    listed, and the rest is kept.

    Args:
        utterances: of one corpus.
        encoder: makes frames of the utterances.
        out: the features folder; the file is ``out/<corpus>/<encoder>.safetensors``.
        tokens: largest number of rows per utterance; None for 32 (audio) or 64 (text); 1 is the
            pooled vector.
        dtype: ``float16`` or ``float32``, as stored; None for float16, and for float32 if the
            encoder is a user's: what it measures may be too small or too large for 16 bits.
        pool: how the pooled vector is made, ``mean`` or ``first``; None for the encoder's own way.
        chunk: utterances per part file; None for 64, or fewer of a small corpus, so that several
            cores have work.
        batch_seconds: length of a batch including its padding, in seconds of sound (15 characters
            of text count as one); None for the encoder's own `batch_seconds`, or else 32.
        overwrite: replace a finished file, whatever its settings.
        retry_failed: encode the failures of a finished file again.
        progress: show a progress bar where standard error is a terminal.
        engine: ``local``, or ``ray`` for a cluster (see docs/cluster.md); both give the same bytes.
        threads: chunks that the local engine makes at a time; None is torch's number of threads.
        context: how many utterances of the dialogue before and after each an encoder of words has
            in view; the file's name then says so.

    Raises:
        FeatureError: an unknown engine; a finished file has other settings; several corpora; none
            of the utterances has sound (or words); none succeeded; values too large for float16;
            or features of a user's encoder that all models read as constants (the file is kept).
    """
    if engine not in ENGINES:
        raise FeatureError(one_of("engine", engine, ENGINES))
    utterances = with_content(utterances)
    spoken = _in_context(utterances, encoder, *context) if any(context) else utterances
    dtype = dtype or ("float32" if encoder.info.code else "float16")
    header = _header(spoken, encoder, tokens, dtype, pool, context)
    path = _path(out, header)
    with locked(path):
        done = None if overwrite or not path.exists() else _finished(path, header)
        most = batch_seconds or float(getattr(encoder, "batch_seconds", BATCH_SECONDS))
        size = chunk or _chunk_size(len(spoken), most)
        chunks = _to_do(spoken, done, header, size, retry_failed)
        if chunks:
            _log.info("%s", _size_of(header, utterances))
            # All that decides the bytes of the parts: settings, content, who is in which part.
            ids = [[row.id for row in rows] for rows in chunks]
            parts = Parts(path, chunks, digest([asdict(header), ids, most]))
            recipe = ExtractionRecipe(encoder, header, most)
            _fill(parts, recipe, engine, threads, progress)
            stores = parts.stores()
            if done is not None and sum(map(len, chunks)) < len(spoken):
                stores = [done, *stores]
            _check_any_succeeded(parts, stores)
            done = merge_parts(path, header, stores, utterances)
        # After the features, since their readers refuse features that contradict the manifest.
        keep_manifest(utterances, path.parent)
        shutil.rmtree(work_folder(path), ignore_errors=True)
    assert done is not None  # noqa: S101 - a file that is not finished always has chunks to do
    if header.code:  # what published encoders give is known to vary
        check_numbers(path, done, utterances)
    first: dict[str, str] = {}  # hash of the samples → the first utterance that has it
    repeated = [
        key for key, sound in done.audio_hashes.items() if first.setdefault(sound, key) != key
    ]
    return ExtractionResult(path, len(done), done.header.failures, done.header.truncated, repeated)


def _chunk_size(count: int, batch_seconds: float) -> int:
    """Utterances per chunk; one core makes a chunk.

    It does not depend on the machine, as the features must not, and the batches of a chunk stay
    full: twelve utterances last about 32 s. A GPU, which asks for longer batches, makes one chunk
    after the other anyway.

    >>> [_chunk_size(count, BATCH_SECONDS) for count in (5, 24, 200, 535)]
    [12, 12, 25, 64]
    """
    return _CHUNK if batch_seconds > BATCH_SECONDS else min(_CHUNK, max(12, math.ceil(count / 8)))


def _path(out: Path, header: FeatureHeader) -> Path:
    before = f"-context{header.context}" if header.context else ""
    after = f"-after{header.context_after}" if header.context_after else ""
    return feature_path(out, header.corpus, f"{header.encoder}{before}{after}")


def _in_context(
    utterances: Sequence[Utterance], encoder: Encoder, before: int, after: int
) -> list[Utterance]:
    if not getattr(encoder, "in_context", False):
        raise FeatureError(
            f"{encoder.info.name} does not read utterances in context; --context is for encoders "
            "of words that transformers reads, such as minilm"
        )
    if doubt := doubt_of_order([row for row in utterances if row.text]):
        _log.warning("%s", doubt)
    return in_context(utterances, before, after)


def _size_of(header: FeatureHeader, utterances: Sequence[Utterance]) -> str:
    """Says how large a feature file will be at most, and how large with one layer."""
    rows = sum(has_material(row, header.modality) for row in utterances)
    width = {"float16": 2, "float32": 4}.get(header.dtype, 4)
    most, layers = rows * header.tokens * header.dim * width, header.layers.count(",") + 1
    sentence = (
        f"{header.corpus} · {header.encoder}: at most {most / 1e6:.1f} MB "
        f"({counted(rows, 'utterance')} of up to {header.tokens} tokens, {header.dim} wide)"
    )
    if layers > 1:
        sentence += f"; one of its {layers} layers takes {most / layers / 1e6:.1f} MB (--layers)"
    return sentence


def one_corpus(utterances: Sequence[Utterance]) -> str:
    """Returns the corpus that all utterances are of.

    Raises:
        FeatureError: none, several corpora, or an id that occurs twice.
    """
    corpora = sorted({row.corpus for row in utterances})
    if len(corpora) != 1:
        raise FeatureError(
            f"utterances of {len(corpora)} corpora {corpora} were given; a feature file holds one: "
            "extract each corpus by itself"
        )
    check_utterances(utterances, FeatureError)
    return corpora[0]


def _header(
    utterances: Sequence[Utterance],
    encoder: Encoder,
    tokens: int | None,
    dtype: str,
    pool: Pool | None,
    context: tuple[int, int],
) -> FeatureHeader:
    info, corpus = encoder.info, one_corpus(utterances)
    tokens = KEPT_TOKENS[info.modality] if tokens is None else tokens
    # With a context only the tokens of the utterance's own words are kept, so there is no [CLS].
    pool = pool or ("mean" if any(context) and tokens == 1 else info.pool)
    check_pooling(tokens, pool)
    if not any(has_material(row, info.modality) for row in utterances):
        needed = "words" if info.modality == "text" else "recordings"
        raise FeatureError(
            f"no utterance of {corpus!r} has {needed}, which {info.name!r} encodes; leave that "
            "modality out, or add them to the manifest"
        )
    inputs = inputs_of(utterances, info.modality)
    return FeatureHeader(
        corpus=corpus, encoder=info.name, modality=info.modality, dim=info.dim, rate=info.rate,
        weights=info.weights, layers=info.layers, tokens=tokens, pool=pool, dtype=dtype,
        exposure=dict(info.exposure), emotion_labels=info.emotion_labels, source=digest(inputs),
        inputs=inputs, compute_dtype=computed_in(encoder), context=context[0],
        context_after=context[1], prefix=getattr(encoder, "prefix", ""),
        code=info.code,
    )  # fmt: skip


def _finished(path: Path, header: FeatureHeader) -> FeatureStore:
    store = FeatureStore.open(path)
    different = differences(store.header, {key: getattr(header, key) for key in _SETTINGS})
    made_of = {*store.ids, *store.header.failures}
    if not different and made_of != header.inputs.keys():
        different = f"it was made from another manifest (of {counted(len(made_of), 'utterance')})"
    if different:
        raise FeatureError(
            f"{path} is finished, but {different}; choose another --out, or replace it with "
            "--overwrite"
        )
    return store


def _to_do(
    utterances: Sequence[Utterance],
    done: FeatureStore | None,
    header: FeatureHeader,
    size: int,
    retry: bool,
) -> list[Sequence[Utterance]]:
    """The chunks to make: all, or those with changed content, and failures if asked.

    A chunk is made again as a whole, so that the same utterances meet in the same batches as in a
    file that is made from nothing.
    """
    chunks = [utterances[begin : begin + size] for begin in range(0, len(utterances), size)]
    if done is None:
        return chunks
    other = changed(done.header.inputs, utterances, header.modality)
    if other:
        what = "recordings" if header.modality == "audio" else "sentences"
        since = "have changed since" if done.header.inputs else "were not noted when"
        changes = f"{len(other)} of {len(utterances)} {what} {since} it was made"
        _log.warning("%s: %s; encoding them again", done.path, changes)
        if header.modality == "text":  # cheap, and only a whole file knows how many were cut
            return chunks
    again = [chunk for chunk in chunks if any(row.id in other for row in chunk)]
    failed = done.header.failures if retry else {}
    tried = [row for row in utterances if row.id in failed and row.id not in other]
    return again + [tried[begin : begin + size] for begin in range(0, len(tried), size)]


def _check_any_succeeded(parts: Parts, stores: Sequence[FeatureStore]) -> None:
    if any(len(store) for store in stores):
        return
    failures = {key: why for store in stores for key, why in store.header.failures.items()}
    shutil.rmtree(parts.folder)
    shown = "; ".join(f"{key}: {why}" for key, why in list(failures.items())[:3])
    raise FeatureError(
        f"{counted(len(failures), 'utterance')}, and all failed, so nothing was written: {shown}"
    )


def _fill(
    parts: Parts, recipe: ExtractionRecipe, engine: str, threads: int | None, progress: bool
) -> None:
    """Makes the parts that are missing, and writes each as it comes."""
    missing, total = parts.missing(), sum(len(rows) for rows in parts.chunks)
    done = total - sum(len(parts.chunks[index]) for index in missing)
    if done:
        _log.info("resuming: %d of %d utterances are done", done, total)
    if not missing:
        return
    header = recipe.header
    chunks = [(index, parts.chunks[index]) for index in missing]
    with (
        progress_bar(f"{header.corpus} · {header.encoder}", total, done, progress) as bar,
        closing(make_parts(recipe, chunks, engine, threads)) as results,
    ):
        for index, chunk in results:
            header_of_part = replace(
                header,
                failures=chunk.failures,
                audio_hashes=chunk.hashes,
                prints=chunk.prints,
                truncated=chunk.truncated,
            )
            parts.write(index, header_of_part, chunk.arrays)
            bar.advance(len(parts.chunks[index]), chunk.seconds)
