"""The command `ser`: one subcommand per library function.

Nothing heavy is imported until a subcommand runs, so that `--help` responds immediately.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from importlib import metadata
from types import FrameType

import tyro

from multimodal_ser.cli import (  # noqa: F401 - importing them registers their commands
    adapt,
    analyze,
    choosing,
    corpora,
    demo,
    experiment,
    export,
    features,
    predict,
    report,
    serve,
    unseen,
)
from multimodal_ser.cli.app import app, command_line, given, say
from multimodal_ser.cli.ending import ended
from multimodal_ser.common.files import remove_unfinished
from multimodal_ser.common.plugins import load_plugins


def main(args: list[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code: 0 on success, else see `ending.ended`."""
    # results go to standard output and logs to standard error, so that `ser predict … > file` holds
    # only results
    handler, told = logging.StreamHandler(sys.stderr), set[str]()
    # a recording that is read twice, for its channel and its emotion, has one warning
    handler.addFilter(lambda record: not _again(record, told))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    for noisy in ("httpx", "huggingface_hub", "transformers", "faster_whisper", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    args = [_named(arg) for arg in (sys.argv[1:] if args is None else args)]
    given.set(tuple(args))
    # Python allows signal handlers in the main thread only; tests and notebooks may call from
    # others
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    return ended(lambda: _run(args), command_line())


def _again(record: logging.LogRecord, told: set[str]) -> bool:
    """Whether a warning was given before, and remembers it."""
    line, count = record.getMessage(), len(told)
    told |= {line} if record.levelno >= logging.WARNING else set()
    return record.levelno >= logging.WARNING and len(told) == count


def _run(args: list[str]) -> int:
    # plug-ins may import torch: help must not wait for that
    if args and not {"-h", "--help"} & set(args):
        load_plugins()
    if args == ["--version"]:
        say(f"multimodal-ser {metadata.version('multimodal-ser')}")
        return 0
    code = app.cli(
        prog="ser",
        description="Speech emotion recognition whose numbers can be believed. "
        "--version says which version this is.",
        args=args,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    return int(code or 0)


def _named(arg: str) -> str:
    """Prefixes ./ to an existing file whose name starts with a dash, as in `ser predict *`.

    Without it, the name would be parsed as an option.
    """
    dashed = arg.startswith("-") and "." in arg and "=" not in arg
    return f".{os.sep}{arg}" if dashed and os.path.isfile(arg) else arg  # noqa: PTH113


def _end(number: int, frame: FrameType | None) -> None:
    """Removes unfinished files, then ends the process as the signal would by default."""
    remove_unfinished()
    # raising the signal again with the default handler gives the exit status that a parent process
    # expects of a terminated child
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
