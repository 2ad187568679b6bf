"""An exported ONNX file → a backend for `Predictor`, with onnxruntime (extra ``onnx``).

The metadata of the file describe its model: see `FileFacts`.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from multimodal_ser.audio.speech import lengthened
from multimodal_ser.common.arrays import Ints, Samples, Singles
from multimodal_ser.common.files import parse_json
from multimodal_ser.errors import SerError, to_install
from multimodal_ser.predict.backend import (
    Backend,
    BatchPrediction,
    Vector,
    WeightPaths,
    check_words,
    joined_predictions,
    predict_windows,
    softmax,
)
from multimodal_ser.predict.prediction import AlsoPredicted
from multimodal_ser.runs.config_file import features_of

_STEP = 320  # samples: windows begin at whole frames


@dataclass(frozen=True)
class FileFacts:
    """The metadata of an ONNX file of this project, all as text.

    Attributes:
        labels: class names in order, separated by commas.
        name: name of the model.
        threshold: confidence below which a prediction is ``uncertain``.
        temperature: the factor that its logits have been multiplied by.
        sample_rate: of its input waveforms, in Hz; mono, float32, -1 to 1.
        longest: largest number of samples in a waveform.
        alone: ``1`` if the waveforms of a batch must have one length, since it masks no padding.
        sides: the modalities that it reads, separated by commas.
        features: for a head, JSON that says for ``text`` and ``audio`` how its inputs are made;
            empty for a whole model.
        card: the model card, in Markdown.
        canonical: ``1`` if it needs canonical waveforms, see `multimodal_ser.audio.speech`.
        shortest: number of samples up to which shorter waveforms are repeated.
        references: for a model that can be adapted, base64 of float32 [N, V]: the mean vectors of
            its training; its input ``shift`` [V] is subtracted from the vectors.
        width: V.
        shares: assumed frequencies of the classes, separated by commas; empty for those of the
            training.
        tokenizer: for words, the content of tokenizer.json; empty if it reads none.
        pieces: largest number of word pieces.
        prefix: text before the words of each recording.
        scale: for attributes, the values that are 0 and 1 in its output ``logits``, separated by a
            comma; empty for classes.
        attributes: for a model of classes and attributes, the names of the attributes, whose
            values come after the classes in ``logits``, separated by commas.
    """

    labels: str
    name: str = ""
    threshold: str = "0"
    temperature: str = "1"
    sample_rate: str = "16000"
    longest: str = "480000"
    alone: str = ""
    sides: str = "audio"
    features: str = ""
    card: str = ""
    canonical: str = ""
    shortest: str = "0"
    references: str = ""
    width: str = "0"
    shares: str = ""
    scale: str = ""
    tokenizer: str = ""
    pieces: str = "512"
    prefix: str = ""
    attributes: str = ""

    @property
    def values(self) -> int:
        """How many outputs are attributes; they are the last ones."""
        names = self.attributes or (self.labels if self.scale else "")
        return len(names.split(",")) if names else 0


class OnnxBackend(Backend):
    """A whole model, or a head on features.

    A whole model reads waves and lengths, word pieces (ids) and their numbers (pieces), or both,
    and may take a shift; it gives logits and embedding, and with a shift vectors.
    """

    def __init__(self, file: Path, weights: WeightPaths = None, device: str = "cpu") -> None:
        self.file = file
        self.session = open_session(file)
        self.inputs = [one.name for one in self.session.get_inputs()]
        facts = _facts(file, self.session.get_modelmeta().custom_metadata_map)
        self.labels = tuple(facts.labels.split(","))
        self.name, self.card = facts.name or file.stem, facts.card
        self.threshold, self.most = float(facts.threshold), int(facts.longest)
        self.modalities = tuple(facts.sides.split(","))
        self.canonical, self.alone = facts.canonical == "1", facts.alone == "1"
        self.shortest = int(facts.shortest)
        references = np.frombuffer(b64decode(facts.references), "<f4")
        self.references = references.reshape(-1, int(facts.width)) if len(references) else None
        shares = [float(share) for share in facts.shares.split(",") if share]
        self.shares = np.array(shares, np.float32) if shares else None
        low, _, high = facts.scale.partition(",")
        scale = (float(low), float(high)) if facts.scale else None
        self.scale = None if facts.attributes else scale
        self.also, self._values = None, facts.values
        if facts.attributes and scale:
            self.also = AlsoPredicted(tuple(facts.attributes.split(",")), scale)
        self.prefix, self.tokenizer = facts.prefix, _tokenizer(file, facts)
        self.features = None
        if facts.features:
            # imported here: it needs torch, and only a head needs it
            from multimodal_ser.predict.run_backend import load_features

            described = features_of(parse_json(facts.features))
            self.features = load_features(file, described, self.modalities, weights, device)

    def __getstate__(self) -> dict[str, Any]:
        """With the file's content in place of the session: another machine may lack the file."""
        return {**self.__dict__, "session": self.file.read_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens a session of one thread, as the copies in several processes share the cores."""
        self.__dict__.update(state)
        self.session = open_session(self.file, 1, state["session"])

    def __call__(
        self, waves: Sequence[Samples], texts: Sequence[str | None], shift: Vector | None = None
    ) -> BatchPrediction:
        """Predicts a batch."""
        check_words(self.name, self.modalities, texts)
        if self.features is not None:
            batch = [*self.features["text"](texts), *self.features["audio"](waves)]
            named = dict(zip(HEAD_INPUTS, (tensor.numpy() for tensor in batch), strict=True))
            return self._run({key: value for key, value in named.items() if key in self.inputs})
        if self.modalities == ("text",):
            return self._run(self._pieces(texts))
        if "lengths" in self.inputs:
            if not self.alone and self.tokenizer is None:
                return predict_windows(waves, self.most, _STEP, partial(self._ask, shift, None))
            # Nothing masks padding, so that waveforms of different lengths cannot share a batch; or
            # every window of a recording needs its words.
            asked = [partial(self._ask, shift, text) for text in texts]
            return joined_predictions(
                [
                    predict_windows([w], self.most, _STEP, a)
                    for w, a in zip(waves, asked, strict=True)
                ]
            )
        # An emotion2vec graph has no mask for padding, so that waveforms of different lengths
        # cannot share a batch.
        scores, means = zip(*[self._scores(wave) for wave in waves], strict=True)
        return BatchPrediction(np.concatenate(scores), np.concatenate(means))

    def _ask(
        self, shift: Vector | None, text: str | None, waves: Sequence[Samples]
    ) -> BatchPrediction:
        waves = [lengthened(wave, self.shortest) for wave in waves]
        lengths = np.array([len(wave) for wave in waves], np.int64)
        padded = np.zeros((len(waves), lengths.max()), np.float32)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = wave
        given = {"waves": padded, "lengths": lengths, **self._pieces([text] * len(waves))}
        return self._run(given if shift is None else {**given, "shift": shift})

    def _pieces(self, texts: Sequence[str | None]) -> dict[str, Ints]:
        """The word pieces of texts, if it reads words; none for a recording without words."""
        if self.tokenizer is None:
            return {}
        given = [text for text in texts if text is not None]
        made = iter(self.tokenizer.encode_batch([self.prefix + text for text in given]))
        rows = [[] if text is None else next(made).ids for text in texts]
        ids = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
        for filled, row in zip(ids, rows, strict=True):
            filled[: len(row)] = row
        return {"ids": ids, "pieces": np.array([len(row) for row in rows], np.int64)}

    def cuts(self, text: str) -> bool:
        """Whether the model reads only the beginning of these words."""
        if self.features is not None:
            return bool(self.features["text"].cuts(text))
        if self.tokenizer is None:
            return False
        return bool(self.tokenizer.encode(self.prefix + text).overflowing)

    def _run(self, inputs: Mapping[str, Any]) -> BatchPrediction:
        wanted = ["logits", "embedding", *(["vectors"] if self.references is not None else [])]
        logits, *rest = self.session.run(wanted, dict(inputs))
        return BatchPrediction(softmax(logits, self._values), *rest)

    def _scores(self, wave: Samples) -> tuple[Singles, Singles]:
        frames, scores = self.session.run(["frames", "scores"], {"waves": wave[None]})
        return scores, frames.mean(1)

    def save(self, folder: Path) -> dict[str, object]:
        """Refuses, because the ONNX file is all there is."""
        raise SerError(f"{self.file} is one file already: copy it; save() is for torch models")


HEAD_INPUTS = ("text", "text_mask", "audio", "audio_mask")


def onnxruntime() -> Any:
    """Imports onnxruntime (extra ``onnx``) with its telemetry off.

    From version 1.29 on its packages record and send usage, and leave a database and a file
    ``.ses`` behind, unless this variable is set before the first import. A value that the user has
    set is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as runtime

    return runtime


def open_session(file: Path, threads: int = 0, content: bytes | None = None) -> Any:
    """Opens an onnxruntime session on the CPU.

    Args:
        file: the model.
        threads: number of threads; 0 for one per core.
        content: of the file, where it has been read already.

    Raises:
        SerError: the extra is missing, or the file is no ONNX file.
    """
    if not find_spec("onnxruntime"):
        raise SerError(f"{file}: ONNX needs an extra: {to_install('onnx')}")
    runtime = onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    if content is None and not file.is_file():
        raise SerError(f"{file}: there is no such file; make it with: ser export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone: its warnings are about the graph's inner order
    # By default the threads spin between two calls and keep the cores busy without any work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        model = str(file) if content is None else content
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (states.Fail, states.InvalidProtobuf, states.InvalidGraph, states.NoSuchFile) as error:
        raise SerError(f"{file}: not an ONNX file that onnxruntime can read ({error})") from error


def _facts(file: Path, metadata: Mapping[str, str]) -> FileFacts:
    known = {key: value for key, value in metadata.items() if key in FileFacts.__annotations__}
    if not known.get("labels"):
        raise SerError(f"{file}: its metadata has no labels; make it with: ser export")
    return FileFacts(**known)


def _tokenizer(file: Path, facts: FileFacts) -> Any:
    """The tokenizer of a file that reads words; None of others."""
    if not facts.tokenizer:
        return None
    if not find_spec("tokenizers"):
        raise SerError(f"{file}: it reads words and needs an extra: {to_install('onnx')}")
    from tokenizers import Tokenizer

    made: Any = Tokenizer.from_str(facts.tokenizer)
    made.no_padding()
    made.enable_truncation(int(facts.pieces))
    return made
