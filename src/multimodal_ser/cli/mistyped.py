"""Finds the misspelt or misplaced word of a command line, and joins options given repeatedly."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import SequenceMatcher, get_close_matches

_HELP = re.compile(r"^\W*?(--?[A-Za-z][\w.-]*(?:, --[\w.-]+)*)", re.MULTILINE)
_CHOICES = re.compile(r"^\W*?(--[\w.-]+) \{([^{}\[]+,[^{}\[]+)\}", re.MULTILINE)
_LIST = re.compile(r"^\W*?(--[\w.-]+) \{?\[\S+ \[", re.MULTILINE)  # --allow [STR [STR ...]]
_OPTION = re.compile(r"--?[A-Za-z]")
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
    command, page = _command(args, parse)
    if names := _commands(page):
        if len(args) == len(command):
            return None
        if not (given := args[len(command)]).startswith("-"):
            return _said(f"{_full(command)} has no command {given}", given, names, command)
    options = {name for line in _HELP.findall(page) for name in line.split(", ")}
    options |= set() if command else {"--version"}
    for arg in args[len(command) :]:
        option = _option(arg)
        if _OPTION.match(arg) and option not in options:
            return _said(
                f"{_full(command)} has no option {option}", option, sorted(options), command
            )
    return _refused_choice(page, args, command) or _left_over(args, command, parse)


def joined(args: Sequence[str], parse: Callable[[list[str]], object]) -> list[str]:
    """The command line with all values of a list after one option; the last would replace others.

    Args:
        args: the command line, without ``ser``, such as ``--columns a=b --columns c=d``.
        parse: as for `mistyped`.
    """
    options = [_option(arg) for arg in args if _OPTION.match(arg)]
    if len({*options}) == len(options):
        return [*args]
    command, page = _command(args, parse)
    lists, parts = _LIST.findall(page), {"": command}
    own = parts[""]
    for place, arg in enumerate(args[len(command) :]):
        if not _OPTION.match(arg):
            own.append(arg)
        elif (option := _option(arg)) not in lists:
            own = parts.setdefault(f"{place}", [arg])
        else:
            own = parts.setdefault(option, [option])
            own += filter(None, [arg.partition("=")[2]])
    return [arg for part in parts.values() for arg in part]


def _option(arg: str) -> str:
    return arg.partition("=")[0].replace("_", "-")


def _command(args: Sequence[str], parse: Callable[[list[str]], object]) -> tuple[list[str], str]:
    """The names of commands that a command line begins with, and the help of the last one."""
    command: list[str] = []
    page = _help(parse, command)
    while len(args) > len(command) and args[len(command)] in _commands(page):
        command.append(args[len(command)])
        page = _help(parse, command)
    return command, page


def _commands(page: str) -> list[str]:
    found = _COMMANDS.match(page)
    return [name.strip() for name in found[1].split(",")] if found else []


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
