"""Shared by all subcommands: the application, its argument types and its output."""

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
MOST_SHOWN = 20  # lines of a list, such as failures; the rest is only counted
given: ContextVar[tuple[str, ...]] = ContextVar("given", default=())


def say(line: str) -> None:
    """Prints a line of the result; everything else goes to the log, on standard error."""
    sys.stdout.write(line + "\n")


def command_line() -> str:
    """Returns the command that the user typed; results record it."""
    return shlex.join(["ser", *given.get()])
