"""The command `ser`: one subcommand per library function.

Nothing heavy is imported until a subcommand runs, so that `--help` responds immediately.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import signal
import site
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from types import FrameType

import tyro

from multimodal_ser.cli import (  # noqa: F401 - importing them registers their commands
    analyze,
    choosing,
    corpora,
    deploy,
    experiment,
    features,
    predict,
    report,
    unseen,
)
from multimodal_ser.cli.app import app, command_line, given, say
from multimodal_ser.common.files import remove_unfinished
from multimodal_ser.common.plugins import load_plugins
from multimodal_ser.errors import SerError, not_installed

USER_ERROR, UNEXPECTED_ERROR, STOPPED = 1, 2, 130
_WRONG_OPTIONS = 2  # tyro's exit code
# commands that a rerun resumes: always, since they write to a folder, or with --out
_WRITING, _RESUMED = ("analyze", "demo"), ("extract", "train", "experiment", "tune", "predict")
CLOSED_PIPE = 128 + 13  # as a shell counts a program that SIGPIPE ends


def main(args: list[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code: 0 on success, else see `exit_code_of`."""
    # results go to standard output and logs to standard error, so that `ser predict … > file` holds
    # only results
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "huggingface_hub", "transformers", "faster_whisper", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Torch's threads wait for each other by spinning, by default for milliseconds: if other
    # programs keep the cores busy, that takes several times as long as the work. About 0.1 ms is
    # enough for threads that are nearly done. libgomp reads it when torch is imported, after this.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    args = [_as_path(arg) for arg in (sys.argv[1:] if args is None else args)]
    given.set(tuple(args))
    # Python allows signal handlers in the main thread only; tests and notebooks may call from
    # others
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    return exit_code_of(lambda: _run(args), command_line())


def _run(args: list[str]) -> int:
    # plug-ins may import torch: help must not wait for that
    wants_help = bool({"-h", "--help"} & set(args))
    if args and not wants_help:
        load_plugins()
    if args == ["--version"]:
        say(f"multimodal-ser {metadata.version('multimodal-ser')}")
        return 0
    _refuse_input_as_output(args)
    if wants_help:
        return _parsed(args)
    from multimodal_ser.cli.mistyped import joined, mistyped

    args = joined(args, _parsed)
    try:
        return _parsed(args, console_outputs=False)
    except SystemExit as stop:
        if stop.code != _WRONG_OPTIONS:
            raise
        if wrong := mistyped(args, _parsed):
            sys.stderr.write(f"error: {wrong}\n")
            raise SystemExit(_WRONG_OPTIONS) from None
        # a value of a wrong kind is reported in any case, all other mistakes only if asked for
        if type(stop.__context__).__name__ == "InstantiationError":
            raise
    return _parsed(args)


def _parsed(args: list[str], console_outputs: bool = True) -> int:
    """Parses a command line and runs its command; wrong options raise SystemExit."""
    code = app.cli(
        prog="ser",
        description="Speech emotion recognition whose numbers can be believed. "
        "--version says which version this is.",
        args=args,
        console_outputs=console_outputs,
        # None is what an option is that is not given, and no value to give
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.DisallowNone),
    )
    return int(code or 0)


def _as_path(arg: str) -> str:
    """Prefixes ./ to an existing file whose name starts with a dash, as in `ser predict *`.

    Without it, the name would be parsed as an option.
    """
    dashed = arg.startswith("-") and "." in arg and "=" not in arg
    return f".{os.sep}{arg}" if dashed and os.path.isfile(arg) else arg  # noqa: PTH113


def _refuse_input_as_output(args: list[str]) -> None:
    """Raises SerError if the file of --out is also an input: the result would replace it."""
    parts = [part for arg in args for part in (arg, arg.partition("=")[2]) if part]
    outs = {after for arg, after in pairwise(parts) if arg == "--out" or arg.startswith("--out=")}
    for out in filter(os.path.isfile, outs):
        inputs = [part for part in parts if os.path.isfile(part)]  # noqa: PTH113
        if sum(os.path.samefile(part, out) for part in inputs) > 1:  # noqa: PTH121
            raise SerError(f"--out {out}: is an input of this command; give another name")


def _terminate(number: int, frame: FrameType | None) -> None:
    """Removes unfinished files, then ends the process as the signal would by default."""
    remove_unfinished()
    # raising the signal again with the default handler gives the exit status that a parent process
    # expects of a terminated child
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def exit_code_of(work: Callable[[], int], command: str) -> int:
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
        return _report(str(error), USER_ERROR)
    except KeyboardInterrupt:
        kept = "; what was written is kept: rerun the same command to resume" if _resumes() else ""
        sys.stderr.write(f"stopped{kept}\n")
        return STOPPED
    except BrokenPipeError:
        _discard_output()
        return CLOSED_PIPE
    except OSError as error:
        return _report_system_error(error, command)
    except ModuleNotFoundError as error:
        missing = not_installed(error)
        return _report(str(missing), USER_ERROR) if missing else _report_unexpected(error, command)
    except Exception as error:  # noqa: BLE001 - it is reported, logged and ends the command
        return _report_unexpected(error, command)
    return code


def _resumes() -> bool:
    """Whether the command that was given goes on, when it is rerun, where it was stopped."""
    command, *options = given.get() or ("",)
    written = any(option.partition("=")[0] == "--out" for option in options)
    return command in _WRITING or (command in _RESUMED and written)


def _ready_streams() -> None:
    r"""Makes output of any name safe on any console, and closed streams harmless.

    Letters that the console's encoding lacks are written as \u2026; bytes of file names that are
    not valid text are passed through unchanged if the console uses UTF-8.
    """
    logging.raiseExceptions = False  # a log line that cannot be written is no reason to end
    if sys.stdin is None:  # closed, as services may have it: nothing comes through it
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            text = (stream.encoding or "").lower().replace("-", "")
            stream.reconfigure(errors="surrogateescape" if text == "utf8" else "backslashreplace")


def _report(message: str, code: int) -> int:
    with suppress(OSError, ValueError):  # standard error may be full or closed as well
        sys.stderr.write(f"error: {message}\n")
    return code


def _report_system_error(error: OSError, command: str) -> int:
    """Reports system errors that the user can fix: no space, no permission, no such folder."""
    reason = os.strerror(error.errno) if error.errno else ""
    if error.filename is not None:
        remedy = "give another place" if error.errno != errno.ENOSPC else "free some space"
        return _report(f"{os.fsdecode(error.filename)}: {reason or error}; {remedy}", USER_ERROR)
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT):
        _discard_output()
        where = "standard output or a file cannot be written"
        return _report(f"{where} ({reason}); free some space or write elsewhere", USER_ERROR)
    return _report_unexpected(error, command)


def _discard_output() -> None:
    """Redirects standard output to nowhere; otherwise its buffer would fail again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _report_unexpected(error: Exception, command: str) -> int:
    first = (str(error).strip().splitlines() or ["no reason given"])[0]
    version = metadata.version("multimodal-ser")
    details = (
        f"{command}\nmultimodal-ser {version}, Python {platform.python_version()}, "
        f"{platform.platform()}\n\n{''.join(traceback.format_exception(error))}"
    )
    place = "nowhere, since no temporary file can be written"
    with suppress(OSError):
        handle, place = tempfile.mkstemp(".log", "ser-")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
    what = f"{type(error).__name__}: {first}; the details are in {place}"
    if own := _own_code(error):
        return _report(f"{own}, code of your own: {what}", UNEXPECTED_ERROR)
    return _report(
        f"this should not happen: {what}: please report it with that file", UNEXPECTED_ERROR
    )


def _own_code(error: Exception) -> str:
    """The last place in a user's model, reader or encoder that this package called; "" if none."""
    ours, others = str(Path(__file__).parents[1]), [*map(os.path.realpath, site.getsitepackages())]
    others += [os.path.dirname(os.path.realpath(traceback.__file__))]  # noqa: PTH120
    found = ""
    # an error in a process of its own comes with that process's traceback as text, as its cause
    for block in "".join(traceback.format_exception(error)).split("\n\n"):
        inside = False
        for path, line in re.findall(r'^  File "(.+)", line (\d+)', block, re.MULTILINE):
            inside |= path.startswith(ours)
            foreign = os.path.isfile(path) and not os.path.realpath(path).startswith(  # noqa: PTH113
                (ours, *others)
            )
            found = f"{path}, line {line}" if inside and foreign else found
    return found
