"""Summary ↔ JSON: the numbers of a table, so that it can be written again without its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from multimodal_ser.errors import SerError
from multimodal_ser.metrics import Reliability
from multimodal_ser.report.naming import Share
from multimodal_ser.report.summary import Group, Note, Row, Score, Summary, Versus

DIGITS = 9  # enough that no rounded cell of a table changes


def as_record(value: Any) -> Any:
    """Turns a summary, or any part of one, into JSON's kinds; numbers keep nine digits.

    >>> as_record(Score((0.5,), float("nan"), None))
    {'values': [0.5], 'mean': None, 'sd': None, 'low': None, 'high': None}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_record(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, np.ndarray):
        return as_record(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): as_record(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [as_record(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, DIGITS)
    return value


def from_record(record: Mapping[str, Any]) -> Summary:
    """Turns a record back into the summary that it was made from.

    Raises:
        SerError: something is missing: the record is of another version.
    """
    try:
        return _summary(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise SerError(
            f"the record of {record.get('name')!r} does not fit this version ({error!r}); make it "
            "again from its runs"
        ) from error


def _summary(record: Mapping[str, Any]) -> Summary:
    lists = ("source", "classes", "corpora", "folds", "method", "missing", "cautions")
    given = {**record, **{name: tuple(record[name]) for name in lists}}
    given["rows"] = tuple(_row(one) for one in record["rows"])
    given["versus"] = tuple(Versus(**one) for one in record["versus"])
    given["groups"] = tuple(_group(one) for one in record["groups"])
    given["notes"] = tuple(Note(**one) for one in record["notes"])
    validation = record["validation"]
    given["validation"] = None if validation is None else _summary(validation)
    return Summary(**given)


def _row(record: Mapping[str, Any]) -> Row:
    curve = {name: np.array(one, dtype=float) for name, one in record["reliability"].items()}
    given = {
        **record,
        "share": None if record["share"] is None else Share(**record["share"]),
        "seeds": tuple(record["seeds"]),
        "draws": tuple(record["draws"]),
        "scores": {name: _score(one) for name, one in record["scores"].items()},
        "recalls": tuple(_score(one) for one in record["recalls"]),
        "confusion": np.array(record["confusion"], dtype=float),
        "reliability": Reliability(**curve | {"count": curve["count"].astype(np.int64)}),
        "notes": tuple(record["notes"]),
    }
    return Row(**given)


def _group(record: Mapping[str, Any]) -> Group:
    gap = record["difference"]
    scores = {name: _score(one) for name, one in record["scores"].items()}
    return Group(**{**record, "scores": scores, "difference": None if gap is None else _score(gap)})


def _score(record: Mapping[str, Any]) -> Score:
    values = tuple(math.nan if one is None else one for one in record["values"])
    mean = math.nan if record["mean"] is None else record["mean"]
    return Score(values, mean, record["sd"], record["low"], record["high"])
