"""Subcommand adapt: estimates the channel of recordings and saves it for later use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.predict import failed, weights_of
from multimodal_ser.config.settings import Vad
from multimodal_ser.errors import NoSpeechError, SerError


@app.command(name="adapt")
def adapt_command(
    files: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path,
    model: str = "starter",
    source: tuple[str, ...] = (),
    vad: Vad = "auto",
    device: str = "cpu",
) -> int:
    """Estimates a channel from recordings without labels: a line, a microphone, a room, a speaker.

    `ser predict`, `ser analyze` and `ser serve` remove it from recordings with --adapt FILE, so
    that it is not mistaken for an emotion. The recordings should mix as many emotions as possible;
    half a dozen recordings help, a hundred are enough. Those that cannot be read are listed, and
    the exit code is then 1.

    Args:
        files: recordings, folders or wildcards; fewer than ten are cut into pieces of 3 s.
        out: file to write, such as channel.json.
        model: the model that the channel is for, as for `ser predict`.
        source: where the encoders' weights are, as for `ser predict`.
        vad: how speech is detected, as for `ser predict`.
        device: device for torch, such as cpu or cuda.
    """
    from multimodal_ser.predict import load
    from multimodal_ser.predict.sources import find_recordings, refuse_recording
    from multimodal_ser.timeline.adapting import channel_of

    found = find_recordings(files)
    refuse_recording(out, found)
    predictor = load(model, device=device, weights=weights_of(source))
    predictor.vad = vad
    failures: dict[str, str] = {}
    try:
        channel = channel_of(found, predictor, vad, failures=failures)
    except NoSpeechError as error:
        _failed(failures, len(found))
        if len(failures) < len(found):
            raise
        raise SerError("no recording can be read, so they show no channel") from error
    say(f"{channel.save(out)}: the channel of {channel.count} recordings or pieces of 3 s, for "
        f"{channel.model}")  # fmt: skip
    return _failed(failures, len(found))


def _failed(failures: Mapping[str, str], total: int) -> int:
    return failed([f"{name}: {reason}" for name, reason in failures.items()], total)
