"""Recordings without labels → the channel they have in common, and a predictor without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multimodal_ser.audio import read_blocks
from multimodal_ser.audio.speech.finder import FRAME, HANGOVER
from multimodal_ser.common.arrays import Samples
from multimodal_ser.config.settings import SAMPLE_RATE, Vad
from multimodal_ser.errors import AudioError, NoSpeechError, counted
from multimodal_ser.predict import Channel, Predictor, Recording
from multimodal_ser.predict.channel import LEAST_RECORDINGS, evenly_chosen

_HELD = 1_200 * SAMPLE_RATE  # samples of decoded recordings that are kept to be predicted next


def channel_of(
    sources: Sequence[Recording],
    predictor: Predictor,
    vad: Vad = "auto",
    *,
    least: int = 1,
    failures: dict[str, str] | None = None,
) -> Channel:
    """The channel that recordings of any length have in common.

    With ten recordings or more, the first half minute of each counts once, and of more than 128 an
    even choice is used. Fewer recordings are cut into pieces of 3 s of speech, of which up to 128
    are drawn.

    Args:
        sources: paths, bytes or (array, rate in Hz); those that cannot be read are skipped.
        predictor: with a model that can be adapted.
        vad: how speech is found.
        least: number of recordings or pieces that must have speech.
        failures: gets the name of each recording that cannot be read, and the reason.

    Raises:
        NoSpeechError: fewer of them have speech.
        SerError: the model cannot be adapted.
    """
    if len(sources) >= LEAST_RECORDINGS:
        firsts = (_first(source, failures) for source in evenly_chosen(sources))
        return predictor.channel_of([wave for wave in firsts if wave is not None])
    # imported here: many recordings, or short ones, need no timeline
    from multimodal_ser.timeline.analysis import listen
    from multimodal_ser.timeline.lanes import Lane, Listener, open_recording

    listener = Listener()
    for source in sources:
        try:
            listen(open_recording(source), [Lane()], [listener], vad)
        except (AudioError, OSError) as error:
            _note(failures, source, error)
    if len(listener.kept) < least:
        what = "too little" if listener.kept else "no"
        raise NoSpeechError(
            f"{what} speech in {counted(len(sources), 'recording')}, so they show no channel"
        )
    return predictor.channel_of(listener.kept, speech=True)


def adapted_to(sources: Sequence[Recording], predictor: Predictor, vad: Vad = "auto") -> Predictor:
    """The predictor adapted to the recordings' channel, or unchanged if they show too little of it.

    Fewer than ten recordings, or ten pieces of 3 s of long ones, are too few, and some models
    cannot be adapted at all.
    """
    if not predictor.adaptable or _most_pieces(sources) < LEAST_RECORDINGS:
        return predictor
    try:
        channel = channel_of(sources, predictor, vad, least=LEAST_RECORDINGS)
    except NoSpeechError:
        return predictor
    return predictor.adapted(channel) if channel.count >= LEAST_RECORDINGS else predictor


def _most_pieces(sources: Sequence[Recording]) -> int:
    """An upper bound for the pieces of speech in the recordings, without searching for speech."""
    if len(sources) >= LEAST_RECORDINGS:
        return len(sources)
    firsts = (_first(source) for source in sources)
    # two pieces of speech are cut from longer speech, or have a pause of the hangover between them
    return sum(1 + len(wave) // (HANGOVER * FRAME) for wave in firsts if wave is not None)


def decoded(sources: Sequence[Recording]) -> dict[Recording, Recording]:
    """Recordings that are used for the channel and then predicted, decoded as (array, rate in Hz).

    They are decoded once for both. Recordings longer than about half a minute are left out, and so
    are those with warnings and everything beyond 20 minutes of sound in memory.
    """
    if len(sources) < LEAST_RECORDINGS:
        return {}
    found: dict[Recording, Recording] = {}
    samples = 0
    for source in evenly_chosen(sources):
        try:
            notes: list[str] = []
            blocks = read_blocks(source, warn=notes.append)  # type: ignore[arg-type]
            first = next(blocks)
            # Predicting reads the others, and keeps what is odd about them.
            if next(blocks, None) is None and samples + len(first) <= _HELD and not notes:
                samples += len(first)
                found[source] = (first, SAMPLE_RATE)
        except (AudioError, OSError):
            continue  # predicting reads it again, and says why it cannot
    return found


def _first(source: Recording, failures: dict[str, str] | None = None) -> Samples | None:
    """About the first half minute; None if the recording is empty or cannot be read."""
    sound, rate = source if isinstance(source, tuple) else (source, None)
    try:
        return next(read_blocks(sound, sample_rate=rate), None)
    except (AudioError, OSError) as error:
        _note(failures, source, error)
        return None


def _note(failures: dict[str, str] | None, source: Recording, error: Exception) -> None:
    if failures is not None and isinstance(source, str | Path):
        failures[str(source)] = str(error).removeprefix(f"{Path(source).name}: ")
