"""Speech → words with their times, by faster-whisper (extra ``asr``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from multimodal_ser.audio import read_audio
from multimodal_ser.audio.speech import FRAME
from multimodal_ser.common.arrays import Samples
from multimodal_ser.common.files import sha256_of
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.mel import LONGEST_SAMPLES
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES, package_folder
from multimodal_ser.encoders.weights import resolve
from multimodal_ser.errors import SerError, import_extra, one_of
from multimodal_ser.predict.inputs import Recording
from multimodal_ser.predict.resumable import Recognised
from multimodal_ser.timeline.stretch import UNSPACED, OpenStretch, text_of
from multimodal_ser.timeline.track import Word, language_of

# speech beyond 30 s is cut at the quietest place after so many samples
_EARLIEST = 20 * SAMPLE_RATE
_SHORTEST = SAMPLE_RATE // 10  # shorter sound has no words
_GAP = 0.05  # seconds between adjacent words of a sentence at most
_LOOPS = 2.4  # a text that gzip makes this many times smaller repeats itself; Whisper's own limit
_FEWEST = 5  # words that are needed to doubt the language
_SURE = 0.7  # mean probability of words below which the language is doubted
_OTHERS = "for other languages take a model of many, such as --words-model base"

Words: TypeAlias = Callable[[Samples], Sequence[Word]]


class Recogniser:
    """Whisper; without a source, the English whisper-tiny of the installed extra ``offline``.

    Attributes:
        multilingual: whether it knows languages other than English.
    """

    def __init__(
        self, source: str | Path | None = None, *, language: str | None = None, device: str = "cpu"
    ) -> None:
        """Loads the network.

        Args:
            source: folder in CTranslate2's layout, a size such as ``small``, or a hub id; the
                size ``base``, of many languages, is taken from the extra ``offline-base`` where
                that is installed.
            language: such as ``de``; None lets a multilingual model detect it.
            device: torch's name, such as ``cuda`` or ``cuda:1``; without CUDA, as with ``mps``,
                the words are recognised on the CPU.

        Raises:
            SerError: an extra is not installed, the weights cannot be read, or they know English
                alone and another language is asked for.
        """
        library = import_extra("faster_whisper", "to recognise words", "asr")
        place = _model_source(source)
        self._folder = Path(place)
        kind, _, number = device.partition(":")
        # CTranslate2, which computes here, knows these two and numbers GPUs in another argument
        where = {
            "device": kind if kind == "cuda" else "cpu",
            "device_index": int(number or 0),
            "compute_type": "float16" if kind == "cuda" else "int8",
        }
        try:
            self._model: Any = library.WhisperModel(place, **where)
        except (RuntimeError, ValueError, OSError) as error:
            raise SerError(f"{place}: cannot be read as a whisper model ({error})") from error
        self.multilingual = bool(self._model.model.is_multilingual)
        if not self.multilingual and language not in (None, "en"):
            raise SerError(f"language {language}: this recogniser knows English alone; {_OTHERS}")
        if language is not None and language not in self._model.supported_languages:
            raise SerError(one_of("language", language, sorted(self._model.supported_languages)))
        self._language = language
        self._made_by = partial(Recogniser, source, language=language, device=device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the arguments: another process loads the network again."""
        return self._made_by, ()

    @property
    def content(self) -> str:
        """A hash of the folder that it was read from; empty for a size or hub id."""
        files = sorted(path for path in self._folder.glob("*") if path.is_file())
        return sha256_of(*files) if files else ""

    def __call__(self, samples: Samples) -> list[Word]:
        """Recognises at most 30 s of sound [time]; times count from its beginning."""
        if len(samples) < _SHORTEST:
            return []
        found, about = self._heard(samples, beam_size=5)
        if any(segment.compression_ratio > _LOOPS for segment in found):
            # a beam is drawn into loops more easily than the single best word after each other
            found, about = self._heard(samples, beam_size=1, no_repeat_ngram_size=3)
        end = len(samples) / SAMPLE_RATE
        words: list[Word] = []
        for part in (word for segment in found for word in segment.words or ()):
            if not (text := part.word.strip()):
                continue
            start, last = min(part.start, end), min(part.end, end)
            word = Word(start, last, text, about.language, part.probability)
            split = about.language not in UNSPACED and not part.word.startswith(" ")
            if words and split:  # such as o + 'clock
                begun = words.pop()
                word = replace(word, start=begun.start, text=begun.text + text)
            words.append(word)
        return words

    def _heard(self, samples: Samples, **search: int) -> tuple[list[Any], Any]:
        """Segments with their words, and what is known of the language.

        Whisper's own way out of doubtful or repeated words is to draw others at random, up to five
        times at five temperatures: every run would find other words, at several times the cost.
        """
        found, about = self._model.transcribe(
            samples,
            language=self._language,
            temperature=0.0,
            word_timestamps=True,
            condition_on_previous_text=False,
            **search,
        )
        return list(found), about


@dataclass(frozen=True)
class RecordingWords:
    """Recognises the words of whole recordings, for `predict.resumable`."""

    recognise: Recogniser

    def __call__(self, source: Recording) -> Recognised:
        """The words; none if the recording cannot be read, which predicting reports."""
        try:
            wave = source[0] if isinstance(source, tuple) else read_audio(source, warn=None)
        except (SerError, OSError):
            return Recognised()
        parts = [self.recognise(wave[start:end]) for start, end in word_pieces(wave, over=True)]
        words = [word for part in parts for word in part]
        text = text_of(words) or None
        return Recognised(text, language_of(words), words_doubt(words, self.recognise.multilingual))


def word_pieces(sound: Samples, *, over: bool) -> Iterator[tuple[int, int]]:
    """Cuts speech into pieces of at most 30 s; the rest waits until the speech is `over`.

    Args:
        sound: [time] from the first sample that is not yet cut.
        over: whether the speech ends with `sound`.

    Yields:
        (start, end) in samples.
    """
    start = 0
    while len(sound) - start > LONGEST_SAMPLES:
        rest = sound[start + _EARLIEST : start + LONGEST_SAMPLES]
        # The quietest frame between 20 and 30 s, most likely a pause.
        frames = rest[: len(rest) // FRAME * FRAME].reshape(-1, FRAME)
        end = start + _EARLIEST + int(frames.var(axis=1).argmin()) * FRAME + FRAME // 2
        yield start, end
        start = end
    if over and len(sound) > start:
        yield start, len(sound)


def words_of(words: Words, sound: Samples, at: int) -> list[Word]:
    """Recognises a piece that starts at sample `at` of the recording."""
    shift = at / SAMPLE_RATE
    found = words(np.ascontiguousarray(sound))
    return [replace(w, start=w.start + shift, end=w.end + shift) for w in found]


def words_doubt(words: Sequence[Word], multilingual: bool) -> str | None:
    """Why words may be wrong; None without a reason for doubt.

    English-only models of Whisper recognise English words in every language, but with lower
    confidence.
    """
    if multilingual or len(words) < _FEWEST:
        return None
    sure = sum(word.probability for word in words) / len(words)
    if sure >= _SURE:
        return None
    reason = f"words of {100 * sure:.0f} % certainty, and their recogniser knows English alone"
    return f"{reason}; {_OTHERS}"


def assigned(
    words: Sequence[Word], stretches: Sequence[tuple[OpenStretch, int]]
) -> Iterator[tuple[int, Word]]:
    """Assigns each word to the nearest stretch and limits its rough times to it.

    Whisper tends to place the last word of a sentence in the pause after it: a word that follows
    its neighbour without a gap stays with it.
    """
    edges = [(stretch.start / SAMPLE_RATE, end / SAMPLE_RATE) for stretch, end in stretches]
    before: tuple[int, Word] | None = None
    for word in words:
        middle = (word.start + word.end) / 2
        distances = [max(start - middle, middle - end) for start, end in edges]
        place = distances.index(min(distances))
        if distances[place] > 0 and before and word.start - before[1].end < _GAP:
            ends = before[1].text.endswith((".", "?", "!"))
            place = place if ends else before[0]
        before = place, word
        first, last = edges[place]
        start = min(max(word.start, first), last - 0.01)
        yield place, replace(word, start=start, end=min(max(word.end, start + 0.01), last))


def _model_source(source: str | Path | None) -> str:
    """The source for faster-whisper: the folder of an installed package, if one has this size."""
    name = f"whisper-{source or 'tiny'}"
    offline = WEIGHT_SOURCES[name].offline if name in WEIGHT_SOURCES else None
    if offline and (source is None or package_folder(offline.package)):
        return str(resolve(name, None).folder)
    return str(source)
