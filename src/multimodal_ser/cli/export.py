"""Subcommand export: a model as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from multimodal_ser.cli.app import Name, app, say
from multimodal_ser.cli.predict import weights_of


@app.command(name="export")
def export_command(
    model: Name,
    /,
    out: Path,
    part: Literal["whole", "head"] | None = None,
    int8: bool = False,
    compare: tuple[str, ...] = (),
    source: tuple[str, ...] = (),
) -> None:
    """Writes a model as one ONNX file and checks it against torch.

    `ser predict --model FILE.onnx` runs it without torch.

    Args:
        model: what `ser predict --model` takes.
        out: the file to write.
        part: whole takes waveforms; head takes a run's features. Default: whole, if the model
            allows it.
        int8: quantise weights to 8 bits; the difference is measured and printed.
        compare: recordings, folders or wildcards to compare on; default: synthetic sound.
        source: where the encoders' weights are, folder or hub id; ENCODER=PLACE for several.
    """
    from multimodal_ser.audio import read_audio
    from multimodal_ser.export import export as write
    from multimodal_ser.predict import load
    from multimodal_ser.predict.sources import find_recordings

    waves = [read_audio(file) for file in find_recordings(compare)] if compare else []
    predictor = load(model, weights=weights_of(source))
    made = write(predictor, out, part=part, int8=int8, compare=waves)
    on = f"{made.compared} items"
    say(f"wrote {made.file} ({made.file.stat().st_size / 1e6:.1f} MB), part: {made.part}")
    what = "probabilities" if predictor.scale is None else "attributes on 0 to 1"
    say(f"{what} differ from torch's by {made.difference:.1e} at most, over {on}")
    if made.int8_difference is not None:
        changed = (
            ""
            if made.int8_changed is None
            else (f"; the most probable class changed for {made.int8_changed:.1%} of {on}")
        )
        say(f"in 8 bits by {made.int8_difference:.1e} at most{changed}")
