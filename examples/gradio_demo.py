"""A Gradio page: record or upload speech and see the emotions.

Run it with: pip install . gradio && python examples/gradio_demo.py
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from multimodal_ser import Predictor, load
from multimodal_ser.predict import NO_SPEECH


@cache
def predictor() -> Predictor:
    """Loads the starter model once."""
    return load()


def answer(recording: tuple[int, NDArray[np.int16]] | None) -> dict[str, float]:
    """Gradio's Audio, (rate in Hz, samples) → its Label, class → probability."""
    if recording is None:
        return {}
    said = predictor()(recording)
    if said.label == NO_SPEECH:
        return {NO_SPEECH: 1.0}
    return dict(zip(said.labels, map(float, said.probabilities), strict=True))


if __name__ == "__main__":
    import gradio

    gradio.Interface(
        answer,
        gradio.Audio(sources=["microphone", "upload"]),
        gradio.Label(),
        title="Emotions in speech",
        description=predictor().card.split("\n\n")[1],
        flagging_mode="never",
    ).launch()
