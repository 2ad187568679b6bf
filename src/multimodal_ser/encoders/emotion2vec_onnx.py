"""emotion2vec → ONNX: waveforms in, frames and class scores out, for any batch and any length.

Needs the extra ``onnx``. The normalisation of the input is part of the file. All recordings of a
batch must have the same length. The file cuts no windows; the caller has to cut long recordings.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal_ser.encoders.emotion2vec import Emotion2Vec
from multimodal_ser.encoders.emotion2vec_files import UNUSED
from multimodal_ser.encoders.emotion2vec_net import Emotion2VecNet, masked_attention
from multimodal_ser.errors import EncoderError, to_install


class EqualLengths(nn.Module):
    """Normalisation and network for recordings of equal lengths, which need no packing."""

    def __init__(self, network: Emotion2VecNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, waves: Tensor) -> list[Tensor]:
        """Maps waves [batch, samples] to every block's output, each [batch, frames, dim]."""
        net = self.network
        centred = waves - waves.mean(1, keepdim=True)
        # The layer norm over the whole waveform that the encoder applies outside of the network.
        x = net.features(centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt())
        x = x + net.positions(x, None)
        bias = net.bias(x.shape[1])[None]
        x = net.norm(torch.cat([net.extra_tokens.expand(x.shape[0], -1, -1), x], dim=1))
        outputs = []
        for block in net.blocks:
            x = block(x, lambda qkv: masked_attention(qkv, net.sizes.heads, bias))
            outputs.append(x[:, net.sizes.extra :])
        return outputs


class _Exported(nn.Module):
    """Network and head for recordings of equal lengths."""

    used: Tensor

    def __init__(self, network: Emotion2VecNet, labels: tuple[str, ...] | None) -> None:
        super().__init__()
        self.outputs, self.head = EqualLengths(network), network.head
        # Rows of the head that were never trained are left out of the exported scores.
        trained = [not label.startswith(UNUSED) for label in labels or ()]
        self.register_buffer("used", torch.tensor(trained).nonzero().flatten())

    def forward(self, waves: Tensor) -> tuple[Tensor, ...]:
        """Maps waves [batch, samples] to frames [batch, frames, dim], and scores if it has a head.

        Scores [batch, classes] sum to 1 over the trained classes, in the order of the labels.
        """
        frames = self.outputs(waves)[-1]
        if self.head is None:
            return (frames,)
        return frames, self.head(frames.mean(1))[:, self.used].softmax(-1)


def export_onnx(encoder: Emotion2Vec, out: str | Path) -> Path:
    """Writes an encoder as an ONNX file with the last block's frames and the head's scores.

    Args:
        encoder: on the CPU, in float32.
        out: the file; large weights go into ``<out>.data`` beside it.

    Returns:
        The file. Input ``waves`` [batch, samples] at 16 kHz, outputs ``frames`` [batch, frames,
        dim] and, with a head, ``scores`` [batch, classes]; its metadata has the classes' labels.

    Raises:
        EncoderError: the extra is missing, or the encoder is not float32 on the CPU.
    """
    if not all(find_spec(name) for name in ("onnx", "onnxscript")):
        raise EncoderError(f"ONNX export needs an extra: {to_install('onnx')}")
    if encoder.device.type != "cpu" or encoder.computes != "float32":
        raise EncoderError(
            f"ONNX export needs the encoder in float32 on the CPU, not in {encoder.computes} on "
            f"{encoder.device}; load it with device='cpu' and dtype='float32'"
        )
    model = _Exported(encoder.network, encoder.labels)
    shapes = {"waves": {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=400)}}
    outputs = ["frames", "scores"][: 2 if encoder.labels else 1]
    program = onnx_program(model, {"waves": torch.zeros(2, 8_000)}, shapes, outputs)
    labels = [label for label in encoder.labels or () if not label.startswith(UNUSED)]
    program.model.metadata_props["labels"] = ",".join(labels)
    program.model.metadata_props["weights"] = encoder.info.weights
    program.save(str(out))
    return Path(out)


def onnx_program(
    module: nn.Module, inputs: Mapping[str, Tensor], dynamic: Any, outputs: Sequence[str]
) -> Any:
    """Traces a module with torch's exporter.

    Args:
        module: is put into evaluation mode.
        inputs: example inputs by name, in the module's order.
        dynamic: which of their sizes are variable, as `torch.export` takes it.
        outputs: names of the outputs.

    Returns:
        torch's `ONNXProgram`.

    Raises:
        EncoderError: torch is too old.
    """
    with torch.no_grad(), quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise EncoderError("torch.onnx.export returned nothing; this needs torch 2.6 or later")
    return program


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silences the exporters' warnings, which are about their internals, not this network."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "root")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
