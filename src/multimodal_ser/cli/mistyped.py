"""Finds the misspelt or misplaced word of a command line, and says what is allowed instead."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import SequenceMatcher, get_close_matches

_HELP = re.compile(r"^\W*?(--?[A-Za-z][\w.-]*(?:, --[\w.-]+)*)", re.MULTILINE)
_CHOICES = re.compile(r"^\W*?(--[\w.-]+) \{([^{}\[]+,[^{}\[]+)\}", re.MULTILINE)
_LEFT_OVER = re.compile(r"Unrecognized options: ([^\s-]\S*)")
_COMMANDS = re.compile(r"^usage: [\w -]+\[-h\]\s+\{([\w,\s-]+)\}")
# share of the letters, as `difflib` counts it, from which a name is a likely one, and how much less
# is as likely
_LIKE, _LESS = 0.6, 0.05


def mistyped(args: Sequence[str], parse: Callable[[list[str]], object]) -> str | None:
    """What is wrong with a command line, if a name in it does not exist or has no place; else None.

    Args:
        args: the command line, without ``ser``.
        parse: parses a command line; with ``--help`` it prints the help and raises SystemExit.
    """
    command: list[str] = []
    while commands := _COMMANDS.match(page := _help(parse, command)):
        names = [name.strip() for name in commands[1].split(",")]
        if len(args) == len(command):
            return None
        if (given := args[len(command)]).startswith("-"):
            break
        if given not in names:
            return _said(f"{_full(command)} has no command {given}", given, names, command)
        command.append(given)
    options = {name for line in _HELP.findall(page) for name in line.split(", ")}
    options |= set() if command else {"--version"}
    for arg in args[len(command) :]:
        option = arg.partition("=")[0].replace("_", "-")
        if re.match(r"--?[A-Za-z]", arg) and option not in options:
            return _said(
                f"{_full(command)} has no option {option}", option, sorted(options), command
            )
    return _refused_choice(page, args, command) or _left_over(args, command, parse)


def _refused_choice(page: str, args: Sequence[str], command: Sequence[str]) -> str | None:
    choices = {name: re.findall(r"[\w+-]+", names) for name, names in _CHOICES.findall(page)}
    for arg, after in zip(args, [*args[1:], "--"], strict=True):
        option, joined, value = arg.partition("=")
        value = value if joined else after
        allowed = choices.get(option.replace("_", "-"), [value])
        if value not in allowed and not (value.startswith("-") and not joined):
            return f"{_full(command)} {option} {value}; allowed: {', '.join(allowed)}"
    return None


def _left_over(
    args: Sequence[str], command: Sequence[str], parse: Callable[[list[str]], object]
) -> str | None:
    """What is wrong if an option of one value is given several."""
    page = io.StringIO()
    with redirect_stderr(page), suppress(SystemExit):
        parse(list(args))
    for option, value, word in zip(args, args[1:], args[2:], strict=False):
        found = _LEFT_OVER.search(page.getvalue())
        if found and word == found[1] and option.startswith("-") and not value.startswith("-"):
            return (
                f"{_full(command)} {option} takes one value, and {word} is one more; if it takes a "
                f"list, write it with commas: {option} {value},{word}"
            )
    return None


def _help(parse: Callable[[list[str]], object], command: list[str]) -> str:
    page = io.StringIO()
    with redirect_stdout(page), suppress(SystemExit):
        parse([*command, "--help"])
    return page.getvalue()


def _full(command: Sequence[str]) -> str:
    return " ".join(["ser", *command])


def _said(wrong: str, given: str, names: Sequence[str], command: Sequence[str]) -> str:
    # every message names --help anyway, and its letters are like those of --model
    likely = [name for name in names if name not in ("-h", "--help")]
    near = get_close_matches(given.lower(), likely, 3, _LIKE)
    shares = [SequenceMatcher(None, name, given.lower()).ratio() for name in near]
    near = [name for name, share in zip(near, shares, strict=True) if share > shares[0] - _LESS]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{wrong}; {meant}`{_full(command)} --help` shows all"
