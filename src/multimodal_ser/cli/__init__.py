"""The command `ser`: one subcommand = one library function.

Nothing heavy is imported until a subcommand runs, so that help answers at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

import tyro

from multimodal_ser.cli import (  # noqa: F401 - they add their commands
    adapt,
    analyze,
    corpora,
    experiment,
    export,
    features,
    predict,
    report,
    runs,
    serve,
)
from multimodal_ser.cli.app import app, given
from multimodal_ser.errors import SerError
from multimodal_ser.files import remove_unfinished


def main(args: list[str] | None = None) -> int:
    """Runs one subcommand; 0 if all went well, 1 for an error that the user can mend."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "huggingface_hub", "transformers", "faster_whisper", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    args = sys.argv[1:] if args is None else args
    given.set(tuple(args))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    try:
        code = app.cli(
            prog="ser",
            description="Speech emotion recognition whose numbers can be believed.",
            args=args,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
    except SerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was finished is kept: the same command goes on there\n")
        return 130
    return int(code or 0)


def _end(number: int, frame: FrameType | None) -> None:
    """Ends at once, as the signal does by itself, but leaves no part of a file behind."""
    remove_unfinished()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
