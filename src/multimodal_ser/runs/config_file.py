"""config.json of a run → its record; a file with anything else in it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from cattrs import BaseValidationError, Converter, transform_error
from cattrs.v import format_exception

from multimodal_ser.common.files import parse_json
from multimodal_ser.config.record import FeatureSpec, FewSpec, Record, Training
from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.errors import SerError

_VARIOUS = "made by another version of this project: delete its folder and run the command again"


def read_record(path: Path) -> Record:
    """Reads the config.json of a run.

    Raises:
        SerError: the file is missing, damaged, of another version, or of another kind.
    """
    if not path.is_file():
        raise SerError(f"{path.parent}: no run; give a folder that holds {path.name}")
    try:
        rest = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(rest, dict):
            raise ValueError("it is no JSON object")
        beside = {one.name: rest.pop(one.name) for one in fields(Record)[1:] if one.name in rest}
        return _CONVERTER.structure({"config": rest, **beside}, Record)
    except BaseValidationError as error:
        reasons = "; ".join(transform_error(error, format_exception=_described))
        cause: Exception = error
        reason = reasons.replace("$.config.", "").replace("$.", "")
    except (OSError, ValueError) as error:
        reason, cause = str(error), error
    raise SerError(f"{path}: is not the config.json of a run ({reason}); {_VARIOUS}") from cause


def features_of(found: object) -> dict[str, FeatureSpec | None]:
    """The specification of features by modality that an exported file contains.

    Raises:
        ValueError: it is not one.
    """
    try:
        return _CONVERTER.structure(found, dict[str, FeatureSpec | None])
    except BaseValidationError as error:
        raise ValueError("; ".join(transform_error(error))) from error


def _described(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return "lacks"
    return str(error) if isinstance(error, SerError | TypeError) else format_exception(error, kind)


def _structure_training(found: Mapping[str, Any], _: object) -> Training:
    rest = dict(found)
    # Only TuneConfig has this field: the record of a fine-tuned encoder is stored without a level.
    if "probe_epochs" in rest:
        return Training(tune=_CONVERTER.structure(rest, TuneConfig))
    few = rest.pop("few", None)
    if few is not None:
        # {"percent": 10, …} or {"shots": 5, …} in the file; unit and amount in the class
        unit = next((unit for unit in ("percent", "shots") if unit in few), "percent")
        few = {**few, "unit": unit, "amount": few.get(unit)}
        few.pop(unit)
    own = {one.name: one for one in fields(Training)[1:]}
    parts = {name: rest.pop(name) for name in own if name in rest} | {"few": few}
    kinds = {"network": ModelConfig, "adaptation": AdaptConfig, "few": FewSpec, "parts": str}
    built: dict[str, Any] = {
        name: _CONVERTER.structure(one, kinds.get(name, bool))
        for name, one in parts.items()
        if one is not None
    }
    return Training(_CONVERTER.structure(rest, TrainConfig), **built)


def _strictly(kinds: tuple[type, ...], value: object, _: object) -> Any:
    """Accepts values of these types only; cattrs would convert others silently."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{value!r} is no {' or '.join(one.__name__ for one in kinds)}")
    return value


_CONVERTER = Converter(forbid_extra_keys=True)
for _kind, _taken in {str: (str,), int: (int,), float: (int, float), bool: (bool,)}.items():
    _CONVERTER.register_structure_hook(_kind, partial(_strictly, _taken))
_CONVERTER.register_structure_hook(str | Mapping[str, str], partial(_strictly, (str, dict)))
_CONVERTER.register_structure_hook(Training, _structure_training)
