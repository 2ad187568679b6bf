"""The name of a model, a file or a folder → Predictor."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from multimodal_ser.common.devices import CPU, check_device
from multimodal_ser.common.files import parse_json
from multimodal_ser.common.plugins import load_plugins
from multimodal_ser.errors import SerError, counted, not_installed
from multimodal_ser.predict.backend import Backend, WeightPaths, weights_place
from multimodal_ser.predict.predictor import Predictor

STARTER = "starter"
MODEL = "model.safetensors"
_MOST_NAMED = 12
_WAYS = (
    "allowed: starter, emotion2vec-plus-seed, -base or -large, hub:owner/name, a run folder, a "
    "saved folder, a .safetensors file of `ser train --tune-encoder`, an .onnx file of `ser export`"
)


def load(
    source: str | Path = STARTER, *, device: str = "cpu", weights: WeightPaths = None
) -> Predictor:
    """Loads a model that predicts emotions.

    Args:
        source: ``starter`` (shipped), ``emotion2vec-plus-seed``, ``-base`` or ``-large``,
            ``hub:owner/name``, or a path: a run folder, what `Predictor.save` wrote, a folder
            with emotion2vec+ weights, a fine-tuned ``.safetensors`` file, an exported ``.onnx``.
        device: where torch computes, such as ``cpu`` or ``cuda``; ONNX files run on the CPU.
        weights: folder or hub id of encoder weights, for emotion2vec and for runs whose encoders
            are not in an installed package; for several encoders, a mapping from name to place.

    Raises:
        SerError: there is no such model or device, its files or encoder weights do not fit, or
            `weights` are given for a model that has its encoder inside.

    Example:
        predictor = load()
        predictor("call.wav").label
    """
    load_plugins()
    try:
        backend = _backend(str(source), check_device(device), weights)
    except ModuleNotFoundError as error:
        raise not_installed(error) or error from error
    by_name = plus_name(str(source)) and not Path(source).exists()
    if weights and not by_name and getattr(backend, "features", None) is None:
        raise SerError(
            f"{backend.name} has its encoder inside and uses no other; leave --source (weights= in "
            "Python) out. It is for runs, ONNX files without their encoder, and emotion2vec+ "
            "by its name"
        )
    return Predictor(backend)


def plus_name(text: str) -> str | None:
    """The emotion2vec+ model that a name, or the end of a path, means; None if it means none.

    >>> plus_name("iic/emotion2vec_plus_large")
    'emotion2vec-plus-large'
    """
    found = re.fullmatch(r"(?:.*[/\\])?(emotion2vec[-_]plus[-_](?:seed|base|large))[/\\]?", text)
    return found[1].replace("_", "-") if found else None


def _backend(source: str, device: str, weights: WeightPaths) -> Backend:
    if source == STARTER:
        file = Path(str(files("multimodal_ser") / STARTER / MODEL))
        if not file.is_file():
            raise SerError(
                f"the starter model is not in this installation ({STARTER}/{MODEL} is missing); "
                "install the package again, or name another model"
            )
        # On the CPU the starter runs in numpy: importing torch takes seconds and much memory.
        if device == CPU:
            from multimodal_ser.predict.numpy_backend import NumpyBackend

            return NumpyBackend(file, STARTER)
        from multimodal_ser.predict.tuned_backend import TunedBackend

        return TunedBackend(file, STARTER, device)
    if source.startswith("hub:"):
        from multimodal_ser.predict.hub import fetch

        return _folder(fetch(source.removeprefix("hub:")), device, weights)
    path, plus = Path(source), plus_name(source)
    if plus and not path.exists():
        return _emotion2vec(plus, weights, device)
    if path.is_dir():
        return _folder(path, device, weights)
    if path.suffix.lower() == ".onnx":
        from multimodal_ser.predict.onnx_backend import OnnxBackend

        return OnnxBackend(path, weights, device)
    if path.is_file():
        return _file(path, device, weights)
    raise SerError(f"no model {source!r}; {_WAYS}")


def _emotion2vec(name: str, weights: WeightPaths, device: str) -> Backend:
    from multimodal_ser.predict.tuned_backend import Emotion2VecBackend

    return Emotion2VecBackend(name, weights_place(weights, name), device)


def _file(path: Path, device: str, weights: WeightPaths) -> Backend:
    """A file of tensors; the file of a run needs the rest of its folder too."""
    from multimodal_ser.predict.run_backend import RunBackend
    from multimodal_ser.predict.tuned_backend import TunedBackend

    kind = _kind(path)
    if kind == "tuned":
        name = path.absolute().parent.name if path.name == MODEL else path.stem
        return TunedBackend(path, name, device)
    # The file of a run is not complete: its encoders are named in config.json beside it.
    if kind == "run" and path.name == MODEL:
        return RunBackend(path.parent, weights, device)
    if kind == "run":
        raise SerError(f"{path}: of a run, give the folder, with config.json and {MODEL}")
    raise SerError(f"{path}: holds no model, but other tensors, such as features; {_WAYS}")


def _folder(path: Path, device: str, weights: WeightPaths) -> Backend:
    from multimodal_ser.predict.run_backend import RunBackend
    from multimodal_ser.predict.tuned_backend import TunedBackend

    kind = _kind(path / MODEL)
    if kind == "run":
        return RunBackend(path, weights, device)
    if kind == "tuned":
        return _named(TunedBackend(path / MODEL, path.absolute().name, device), path)
    if plus := plus_name(str(path.absolute())):
        return _emotion2vec(plus, path, device)
    # A folder of runs is a common mistake: the message lists the runs to choose from.
    if runs := sorted(one.parent.name for one in path.glob(f"*/{MODEL}")):
        more = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
        raise SerError(
            f"{path} holds {counted(len(runs), 'model')}; choose one: "
            f"{', '.join(runs[:_MOST_NAMED])}{more}"
        )
    raise SerError(
        f"{path} is not a model folder (no {MODEL} of this project; a folder of emotion2vec+ "
        f"weights is called emotion2vec_plus_seed, _base or _large); {_WAYS}"
    )


def _kind(path: Path) -> str | None:
    """The kind of model in a file, from its header: ``run``, ``tuned``, or None."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise SerError(f"{path}: not a safetensors file ({error}); {_WAYS}") from error
    return next((kind for kind in ("run", "tuned") if kind in metadata), None)


def _named(backend: Any, folder: Path) -> Backend:
    """Gives a backend the name, threshold and card that `Predictor.save` wrote beside it."""
    config, card = folder / "config.json", folder / "README.md"
    if config.is_file():
        try:
            about = parse_json(config.read_text("utf-8"))
            if "fold" in about:  # a run folder's config.json: the model file has name and threshold
                return backend
            about = about["predictor"]
            backend.name, backend.threshold = str(about["name"]), float(about["threshold"])
        except (ValueError, KeyError, TypeError) as error:
            raise SerError(f"{config}: not of a saved model ({error!r})") from error
    if card.is_file():
        backend.card = card.read_text("utf-8")
    return backend
