"""Writes a model as ONNX, with metadata, and compares it with torch. Extra ``onnx``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from multimodal_ser.common.arrays import Samples, Singles
from multimodal_ser.common.files import scratch_folder, written_aside
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.encoders.emotion2vec_onnx import export_onnx, onnx_program, quiet_exporter
from multimodal_ser.errors import SerError, to_install
from multimodal_ser.export.plan import Graph, Part, graph_of
from multimodal_ser.predict import Predictor
from multimodal_ser.predict.backend import predict_batches, softmax
from multimodal_ser.predict.hub import refuse_adapted
from multimodal_ser.predict.onnx_backend import FileFacts, OnnxBackend, onnxruntime, open_session
from multimodal_ser.predict.run_backend import RunBackend
from multimodal_ser.predict.tuned_backend import Emotion2VecBackend

_ALLOWED = 1e-4  # of difference between the probabilities of torch and of the file
_CHANGED = 0.5  # share of items whose most probable class may change in 8 bits
_WORDS = "It is eleven o'clock, and I would like to go: we'll stop in a couple of minutes."
_HEAD_ROWS = 64  # random items that a head is compared on


@dataclass(frozen=True)
class Exported:
    """The result of an export: the file, and its differences from torch.

    Attributes:
        file: the ONNX file.
        part: ``whole`` takes waveforms, ``head`` takes features.
        compared: number of items compared.
        difference: the largest difference between probabilities of torch and of the float32 file,
            or between attributes on 0 … 1.
        int8_difference: the same for the file in 8 bits; None if it has none.
        int8_changed: share of the items whose most probable class is another in 8 bits; None for
            attributes and without 8 bits.
    """

    file: Path
    part: Part
    compared: int
    difference: float
    int8_difference: float | None = None
    int8_changed: float | None = None


def export(
    predictor: Predictor,
    out: str | Path,
    *,
    part: Part | None = None,
    int8: bool = False,
    compare: Sequence[Samples] = (),
) -> Exported:
    """Writes a model as ONNX and compares its predictions with torch.

    Args:
        predictor: from `load`, on the CPU: a fine-tuned model, a run, or emotion2vec+.
        out: the file, whose name ends in ``.onnx``.
        part: ``whole``: waves [batch, samples] at 16 kHz and lengths [batch] → logits and
            embedding; ``head``: tokens and masks of a run's features. None is the whole model
            if the model allows it.
        int8: quantise weights to 8 bits (dynamic quantisation): smaller, with small differences.
        compare: 16 kHz waveforms to compare on, the first 30 s of each for a run, see the guide;
            synthetic sound by default.

    Raises:
        SerError: the extra is missing, the name is of another kind of file, the model has no such
            part or is adapted to a channel, or the file's predictions differ from torch's by more
            than 1e-4, or in 8 bits for more than half of the items; nothing is written then.
    """
    refuse_adapted(predictor)
    if not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise SerError(f"ONNX export needs an extra: {to_install('onnx')}")
    out = Path(out)
    if out.suffix.lower() != ".onnx":  # by which loading knows the file
        raise SerError(f"{out}: the name of an ONNX file ends in .onnx; give {out}.onnx")
    # not beside `out`, where a killed process would leave it behind
    with scratch_folder() as folder:
        file = folder / out.name
        graph = _write(predictor, file, part)
        wanted, probabilities_of = _comparison(predictor, graph, list(compare) or _made_up_sound())
        difference = float(np.abs(probabilities_of(file) - wanted).max())
        # "not <=" and not ">": a difference of NaN has to fail as well
        if not difference <= _ALLOWED:
            raise SerError(
                f"{out}: the file's probabilities differ from torch's by {difference:.2g}, more "
                f"than {_ALLOWED:g}, so it was not kept; please report this model"
            )
        result = Exported(out, graph.part if graph else "whole", len(wanted), difference)
        if int8:
            _quantise(file)
            classes = len(predictor.labels) if predictor.scale is None else 0
            result = _measured_int8(result, wanted, probabilities_of(file), classes)
            if (result.int8_changed or 0) > _CHANGED:
                raise SerError(
                    f"{out}: in 8 bits the most probable class changed for "
                    f"{result.int8_changed:.0%} of {len(wanted)} items, so it was not kept; leave "
                    "--int8 out"
                )
        for written in folder.iterdir():  # the file, and that of large weights beside it
            with written_aside(out.parent / written.name) as partial:
                shutil.copyfile(written, partial)
    return result


def _made_up_sound() -> list[Samples]:
    """Synthesises hums of changing pitch and loudness, with noise, of 0.4 to 6 s, to compare on."""
    draw = np.random.default_rng(0)
    sounds = []
    for seconds in (0.4, 0.9, 1.7, 2.5, 3.0, 6.0):
        time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = draw.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * draw.uniform(0.5, 3) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        hum = sum(np.sin(n * phase) / n for n in range(1, 20))
        loud = np.sin(2 * np.pi * draw.uniform(1, 4) * time) ** 2 * draw.uniform(0.05, 0.4)
        noise = 10 ** draw.uniform(-4, -2) * draw.standard_normal(len(time))
        sounds.append((hum * loud + noise).astype(np.float32))
    return sounds


def _write(predictor: Predictor, file: Path, part: Part | None) -> Graph | None:
    """Writes the file; returns None for emotion2vec+, which has its own export."""
    if not isinstance(predictor.backend, Emotion2VecBackend):
        graph = graph_of(predictor, part)
        _write_graph(graph, file)
        return graph
    if part == "head":
        raise SerError(f"{predictor.name} is one piece of encoder and head; leave --part out")
    export_onnx(predictor.backend.encoder, file)
    facts = FileFacts(
        ",".join(predictor.labels), name=predictor.name, threshold=repr(predictor.threshold),
        card=predictor.card,
    )  # fmt: skip
    _describe(file, facts)
    return None


def _write_graph(graph: Graph, file: Path) -> None:
    program = onnx_program(graph.module, graph.inputs, graph.dynamic, graph.outputs)
    # inner results of embedding layers are called "embedding" by the exporter, as an output is here
    for node in program.model.graph:
        for value in node.outputs:
            if value.name in graph.outputs and value not in program.model.graph.outputs:
                value.name = f"inner_{value.name}"
    program.model.metadata_props.update(asdict(graph.facts))
    program.save(str(file), external_data=False)
    _add_defaults(file, graph)


def _add_defaults(file: Path, graph: Graph) -> None:
    """Makes inputs optional: an input with an initialiser of the same name may be left out."""
    import onnx

    if not graph.defaults:
        return
    model = onnx.load(str(file), load_external_data=False)
    for name, tensor in graph.defaults.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(tensor.numpy(), name))
    onnx.save(model, str(file))


def _describe(file: Path, facts: FileFacts) -> None:
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    kept = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, kept | asdict(facts))
    onnx.save(model, str(file))


def _comparison(
    predictor: Predictor, graph: Graph | None, waves: Sequence[Samples]
) -> tuple[Singles, Callable[[Path], Singles]]:
    """Returns torch's probabilities [N, C], and a function that computes a file's."""
    if graph is None or graph.part == "whole":
        if graph and isinstance(predictor.backend, RunBackend):
            # a run pools the features of all of a longer recording, the file predicts its pieces
            waves = [wave[: int(graph.facts.longest)] for wave in waves]

        def of_file(file: Path) -> Singles:
            return _probabilities(Predictor(OnnxBackend(file)), waves)

        return _probabilities(predictor, waves), of_file
    inputs = _random_tokens(graph)
    with torch.inference_mode():
        logits: Singles = graph.module(*inputs.values()).logits.numpy()

    def of_head(file: Path) -> Singles:
        named = {name: tensor.numpy() for name, tensor in inputs.items()}
        logits_of_file: Singles = open_session(file).run(["logits"], named)[0]
        return softmax(logits_of_file, graph.facts.values)

    return softmax(logits, graph.facts.values), of_head


def _probabilities(predictor: Predictor, waves: Sequence[Samples]) -> Singles:
    """Runs the network without looking for speech, which synthetic sound does not contain."""
    # every other item lacks its words, if the model can do without
    missing = None if predictor.modalities != ("text",) else ""
    texts = [_WORDS[: 9 * n] if n % 2 else missing for n in range(len(waves))]
    return predict_batches(predictor.backend, waves, texts).probabilities


def _random_tokens(graph: Graph) -> dict[str, torch.Tensor]:
    """Draws inputs of other sizes than the examples, with items that lack a modality."""
    noise = torch.Generator().manual_seed(0)
    inputs = {}
    for name, example in graph.inputs.items():
        if example.dtype == torch.bool:
            count = torch.randint(0, 12, (_HEAD_ROWS, 1), generator=noise)
            inputs[name] = torch.arange(11) < count
        else:
            inputs[name] = torch.randn(_HEAD_ROWS, 11, example.shape[2], generator=noise)
    return inputs


def _quantise(file: Path) -> None:
    """Quantises products with constant weights to 8 bits, but neither spectrum nor convolutions.

    The weights are unsigned as the inputs are: processors without VNNI add products of unsigned and
    signed numbers in 16 bits, where they overflow, and predictions become others without an error.
    """
    onnxruntime()  # first: it switches onnxruntime's telemetry off
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = file.with_name(f"{file.name}.float32")
    _without_inner_shapes(file, plain)
    file.unlink()
    with quiet_exporter():
        quantize_dynamic(
            str(plain),
            str(file),
            weight_type=QuantType.QUInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
        )
    plain.unlink()


def _without_inner_shapes(file: Path, plain: Path) -> None:
    """Removes inner shapes: some quantisers refuse those of some exporters, and infer their own."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    del model.graph.value_info[:]
    onnx.save(model, str(plain))


def _measured_int8(result: Exported, wanted: Singles, given: Singles, classes: int) -> Exported:
    most, now = (one[:, :classes] for one in (wanted, given))
    changed = float((most.argmax(1) != now.argmax(1)).mean()) if classes else None
    largest = float(np.abs(given - wanted).max())
    return replace(result, int8_difference=largest, int8_changed=changed)
