"""What every subcommand shares: the application, its argument kinds and its way of printing."""

from __future__ import annotations

import shlex
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import tyro

app = tyro.extras.SubcommandApp()
Name = Annotated[str, tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]
MOST_SHOWN = 20
given: ContextVar[tuple[str, ...]] = ContextVar("given", default=())


def say(line: str) -> None:
    """Prints a line of the answer; everything else goes to the log, on standard error."""
    sys.stdout.write(line + "\n")


def command_line() -> str:
    """The line that the user typed, as results record it."""
    return shlex.join(["ser", *given.get()])
