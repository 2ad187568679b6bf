"""Subcommand adapt: estimates the channel of recordings and saves it for later use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from multimodal_ser.cli.app import app, say
from multimodal_ser.cli.predict import weights_of
from multimodal_ser.config.settings import Vad


@app.command(name="adapt")
def adapt_command(
    files: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path,
    model: str = "starter",
    source: tuple[str, ...] = (),
    vad: Vad = "auto",
    device: str = "cpu",
) -> None:
    """Estimates a channel from recordings without labels: a line, a microphone, a room, a speaker.

    `ser predict`, `ser analyze` and `ser serve` remove it from recordings with --adapt FILE, so
    that it is not mistaken for an emotion. The recordings should mix as many emotions as possible;
    half a dozen recordings help, a hundred are enough.

    Args:
        files: recordings, folders or wildcards; fewer than ten are cut into pieces of 3 s.
        out: file to write, such as channel.json.
        model: the model that the channel is for, as for `ser predict`.
        source: where the encoders' weights are, as for `ser predict`.
        vad: how speech is detected, as for `ser predict`.
        device: device for torch, such as cpu or cuda.
    """
    from multimodal_ser.predict import load
    from multimodal_ser.predict.sources import find_recordings
    from multimodal_ser.timeline.adapting import channel_of

    predictor = load(model, device=device, weights=weights_of(source))
    predictor.vad = vad
    channel = channel_of(find_recordings(files), predictor, vad)
    say(f"{channel.save(out)}: the channel of {channel.count} recordings or pieces of 3 s, for "
        f"{channel.model}")  # fmt: skip
