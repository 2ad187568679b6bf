"""A run that fails does not stop the others: its error is raised at the end."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from multimodal_ser.common.files import is_of_system
from multimodal_ser.errors import SerError, counted
from multimodal_ser.experiments.fitting import RunContext, make_run
from multimodal_ser.experiments.plans import Plan

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """The error of a run.

    Attributes:
        run: the name of its folder.
        error: what was raised.
        trace: its traceback as text, which an error from another process lacks.
    """

    run: str
    error: Exception
    trace: str


class _Trace(Exception):  # noqa: N818 - the traceback of another process, shown as a cause
    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def try_run(context: RunContext, item: Plan) -> Path | Failure:
    """Makes a run; returns its folder, or the error of its model or data.

    Raises:
        Exception: a full disk, or another error of the system: every other run would meet it, too.
    """
    try:
        return make_run(context, item)
    except Exception as error:
        if is_of_system(error):
            raise
        return Failure(item.config.folder, error, traceback.format_exc())


def sendable(failure: Failure) -> Failure:
    """The failure with an error that another process can receive.

    Python rebuilds an error from its message alone. One of a class whose constructor asks for more,
    as a user's network may raise, would break the pool of processes, and with it the runs that are
    still to be made. So an error that is neither Python's own nor a SerError is sent as
    a RuntimeError with its name and message.
    """
    kind = type(failure.error)
    if issubclass(kind, SerError) or kind.__module__ == "builtins":
        return failure
    return replace(failure, error=RuntimeError(f"{kind.__name__}: {failure.error}"))


def raise_failures(failures: Sequence[Failure], runs: int) -> None:
    """Raises the error of the first failed run, if there is one, after all runs.

    Args:
        failures: in the order of the runs.
        runs: number of all runs, failed or not.
    """
    if not failures:
        return
    if runs > 1:
        _log.error(
            "%d of %s failed; those that are complete are kept: ser report shows them, and the "
            "same command makes the others",
            len(failures), counted(runs, "run"),
        )  # fmt: skip
    error = failures[0].error
    if error.__traceback__ is None:
        raise error from _Trace(failures[0].trace)
    raise error
