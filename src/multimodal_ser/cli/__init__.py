"""The command `ser`: one subcommand = one library function.

Nothing heavy is imported until a subcommand runs, so that help answers at once.
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

from multimodal_ser.cli import (  # noqa: F401 - they add their commands
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
    """Runs one subcommand; 0 if all went well, 1 or more as `ending.ended` says."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "huggingface_hub", "transformers", "faster_whisper", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    args = [_named(arg) for arg in (sys.argv[1:] if args is None else args)]
    given.set(tuple(args))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    return ended(lambda: _run(args), command_line())


def _run(args: list[str]) -> int:
    if args and not {"-h", "--help"} & set(args):  # help imports nothing heavy
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
    """A file whose name begins with a dash is that file, as `ser predict *` means it."""
    dashed = arg.startswith("-") and "." in arg and "=" not in arg
    return f".{os.sep}{arg}" if dashed and os.path.isfile(arg) else arg  # noqa: PTH113


def _end(number: int, frame: FrameType | None) -> None:
    """Ends at once, as the signal does by itself, but leaves no part of a file behind."""
    remove_unfinished()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
