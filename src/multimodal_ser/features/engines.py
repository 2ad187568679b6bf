"""chunks of a manifest → parts, in parallel on threads of this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from threading import Event, Lock
from typing import Any

from multimodal_ser.common.cluster import run_on_ray, run_on_threads
from multimodal_ser.common.devices import is_gpu
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.encoders.base import Encoder
from multimodal_ser.features.chunks import EncodedChunk, ExtractionRecipe, make_part

ENGINES = ("local", "ray")
_Numbered = tuple[int, Sequence[Utterance]]


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
    on_gpu = is_gpu(_device_of(recipe.encoder))
    if engine == "ray":
        yield from run_on_ray(_make, recipe, chunks, gpus=int(on_gpu))
        return
    stop = Event()
    guarded = replace(recipe, encoder=_Guarded(recipe.encoder, on_gpu, stop))
    threads = _default_threads() if threads is None else threads
    yield from run_on_threads(_make, guarded, chunks, threads=threads, stop=stop)


def _device_of(encoder: Encoder) -> str:
    """The device of an encoder, such as ``cpu`` or ``cuda:0``."""
    return str(getattr(encoder, "device", "cpu"))


def _make(recipe: ExtractionRecipe, chunk: _Numbered) -> tuple[int, EncodedChunk]:
    number, rows = chunk
    return number, make_part(recipe, rows)


def _default_threads() -> int:
    import torch

    return torch.get_num_threads()


class _Stopped(Exception):  # noqa: N818 - an end, no error
    """Raised in threads when no more results are wanted."""


class _Guarded:
    """An encoder that several threads share, and that can be stopped between two batches.

    The first batch is encoded alone: tokenizers set up padding and truncation in their first call
    and fail if another call comes in between. A GPU always gets one batch at a time, while the
    other threads decode.
    """

    def __init__(self, encoder: Encoder, on_gpu: bool, stop: Event) -> None:
        self.info, self._encoder, self._stop = encoder.info, encoder, stop
        self._alone, self._on_gpu, self._settled = Lock(), on_gpu, False

    def __call__(self, items: Any) -> Any:
        together = self._settled and not self._on_gpu
        with nullcontext() if together else self._alone:
            if self._stop.is_set():
                raise _Stopped
            found = self._encoder(items)
            self._settled = True
            return found
