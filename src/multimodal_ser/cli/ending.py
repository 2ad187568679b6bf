"""Ends a command: errors become one line and an exit code instead of a traceback."""

from __future__ import annotations

import errno
import logging
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata

from multimodal_ser.errors import SerError, not_installed

MENDABLE, UNFORESEEN, STOPPED = 1, 2, 130
CLOSED_PIPE = 128 + 13  # as a shell counts a program that SIGPIPE ends


def ended(work: Callable[[], int], command: str) -> int:
    """Runs a command and returns its exit code.

    Args:
        work: does the command's work and returns a code; help and wrong options raise SystemExit.
        command: what the user typed, for the log of an unexpected error.

    Returns:
        What `work` returns; 1 for an error that the user can fix, 2 for an unexpected one,
        130 after Ctrl-C, 141 if the reader of standard output has gone.
    """
    _ready_streams()
    try:
        try:
            code = work()
        finally:
            # a full disk or closed pipe often shows only when the buffer is written; here it can
            # still be reported
            sys.stdout.flush()
    except SerError as error:
        return _told(str(error), MENDABLE)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was finished is kept: rerun the same command to resume\n")
        return STOPPED
    except BrokenPipeError:
        _discard_output()
        return CLOSED_PIPE
    except OSError as error:
        return _of_system(error, command)
    except ModuleNotFoundError as error:
        missing = not_installed(error)
        return _told(str(missing), MENDABLE) if missing else _unforeseen(error, command)
    except Exception as error:  # noqa: BLE001 - it is reported, logged and ends the command
        return _unforeseen(error, command)
    return code


def _ready_streams() -> None:
    r"""Makes output of any name safe on any console, and output to a closed stream harmless.

    Letters that the console's encoding lacks are written as \u2026; bytes of file names that are
    not valid text are passed through unchanged if the console uses UTF-8.
    """
    logging.raiseExceptions = False  # a log line that cannot be written is no reason to end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            text = (stream.encoding or "").lower().replace("-", "")
            stream.reconfigure(errors="surrogateescape" if text == "utf8" else "backslashreplace")


def _told(message: str, code: int) -> int:
    with suppress(OSError, ValueError):  # standard error may be full or closed as well
        sys.stderr.write(f"error: {message}\n")
    return code


def _of_system(error: OSError, command: str) -> int:
    """Reports system errors that the user can fix: no space, no permission, no such folder."""
    reason = os.strerror(error.errno) if error.errno else ""
    if error.filename is not None:
        remedy = "give another place" if error.errno != errno.ENOSPC else "make room"
        return _told(f"{os.fsdecode(error.filename)}: {reason or error}; {remedy}", MENDABLE)
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT):
        _discard_output()
        where = "standard output or a file cannot be written"
        return _told(f"{where} ({reason}); make room or write elsewhere", MENDABLE)
    return _unforeseen(error, command)


def _discard_output() -> None:
    """Redirects standard output to nowhere; otherwise its buffer would fail again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _unforeseen(error: Exception, command: str) -> int:
    first = (str(error).strip().splitlines() or ["no reason given"])[0]
    version = metadata.version("multimodal-ser")
    told = (
        f"{command}\nmultimodal-ser {version}, Python {platform.python_version()}, "
        f"{platform.platform()}\n\n{''.join(traceback.format_exception(error))}"
    )
    place = "nowhere, since no temporary file can be written"
    with suppress(OSError):
        handle, place = tempfile.mkstemp(".log", "ser-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(told)
    return _told(
        f"this should not happen: {type(error).__name__}: {first}; the details are in {place}: "
        "please report it with that file",
        UNFORESEEN,
    )
