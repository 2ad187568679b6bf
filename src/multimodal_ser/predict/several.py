"""Predictions → a list with a short repr, an HTML table for notebooks, and a pandas frame."""

from __future__ import annotations

from html import escape
from typing import Any

from multimodal_ser.errors import SerError
from multimodal_ser.predict.prediction import Prediction

_SHOWN = 5
_STYLE = "text-align:left;padding:0 .6em"


class Predictions(list[Prediction | SerError]):
    """An ordinary list with one prediction per recording, in their order.

    If a recording could not be predicted, its error takes its place.
    """

    def __repr__(self) -> str:
        shown = [_shortly(item) for item in self[:_SHOWN]]
        more = [f"… {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return f"[{', '.join([*shown, *more])}]"

    def _repr_html_(self) -> str:
        """A table for notebooks: label, confidence, and probabilities of classes or attributes."""
        first = next((one for one in self if isinstance(one, Prediction)), None)
        labels = () if first is None else first.labels
        columns = ["label"] if first is not None and first.scale else ["label", "confidence"]
        head = ["", *columns, *labels, *(first.also.labels if first and first.also else ())]
        rows = [_row(number, item, len(head)) for number, item in enumerate(self)]
        cells = "".join(f'<th style="{_STYLE}">{escape(word)}</th>' for word in head)
        return f"<table><tr>{cells}</tr>{''.join(rows)}</table>"

    def to_frame(self) -> Any:
        """A pandas DataFrame with a row per recording and a column ``p_…`` for each class.

        Attributes have columns of their own names. Rows of recordings that could not be predicted
        have only an ``error``.

        Raises:
            SerError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise SerError("to_frame needs pandas: pip install pandas") from error
        return pd.DataFrame([_record(item) for item in self])


def _shortly(item: Prediction | SerError) -> str:
    return f"SerError({str(item)!r})" if isinstance(item, SerError) else repr(item)


def _row(number: int, item: Prediction | SerError, columns: int) -> str:
    if isinstance(item, SerError):
        return f'<tr><td>{number}</td><td colspan="{columns - 1}">{escape(str(item))}</td></tr>'
    if item.scale is None:
        words = [item.label, *(f"{one:.2f}" for one in (item.confidence, *item.probabilities))]
    else:
        words = [item.label]
    if rated := item if item.scale else item.also:
        values = rated.attributes  # none without speech
        words += [f"{values[n]:.2f}" if values else "" for n in rated.labels]
    words = [str(number), *words]
    cells = "".join(f'<td style="{_STYLE}">{escape(word)}</td>' for word in words)
    return f"<tr>{cells}</tr>"


def _record(item: Prediction | SerError) -> dict[str, Any]:
    if isinstance(item, SerError):
        return {"error": str(item)}
    record = item.as_dict()
    if item.scale is not None:
        return {**record, **record.pop("attributes"), "error": None}
    shares = record.pop("probabilities")
    record |= record.pop("attributes", {})
    return {**record, **{f"p_{name}": share for name, share in shares.items()}, "error": None}
