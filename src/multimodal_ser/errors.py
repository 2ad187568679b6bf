"""The errors for invalid input; messages say what was given, what is allowed and what to do."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


class SerError(Exception):
    """Invalid input; the message says what is allowed and how to fix it.

    Attributes:
        file: the recording that could not be predicted, if it was given by its path.
    """

    file: str | None = None


class AudioError(SerError):
    """A recording cannot be decoded or has nothing usable; the message starts with its name."""


class NoSpeechError(SerError):
    """Recordings contain no speech, although speech is needed."""


class LabelError(SerError):
    """A class set and a corpus, or two class sets, do not fit together."""


class SplitError(SerError):
    """A split is malformed, or lets speakers, sessions, dialogues or recordings leak."""


class FeatureError(SerError):
    """A feature file is missing, damaged, or was made with other settings than requested."""


class EncoderError(SerError):
    """An encoder's weights are missing, altered, or do not fit its code."""


_TRAINING = ("torch", "transformers", "scipy", "sklearn")


def not_installed(error: ModuleNotFoundError) -> SerError | None:
    """Returns what to install if a package of the extra ``train`` is missing; None for others.

    >>> str(not_installed(ModuleNotFoundError("No module named 'torch'", name="torch")))
    "this needs torch, which is not installed: pip install ...[train]'"
    """
    name = (error.name or "").split(".")[0]
    if name not in _TRAINING:
        return None
    return SerError(f"this needs {name}, which is not installed: {to_install('train')}")


def import_extra(module: str, why: str, extra: str, kind: type[SerError] = SerError) -> Any:
    """Imports a module of an extra.

    Raises:
        SerError: it is not installed; the message says why it is needed, and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise kind(f"{why}: {to_install(extra)}") from error


def to_install(extra: str) -> str:
    """Returns the command that adds an extra to this installation, from where it was installed.

    pip notes the clone, archive or repository that a package came from (PEP 610); without such a
    note it came from an index, which has the extras too.
    """
    try:
        note = metadata.distribution("multimodal-ser").read_text("direct_url.json")
        origin = json.loads(note) if note else {}
    except metadata.PackageNotFoundError:  # the sources are on the path and not installed
        origin = {"url": Path(__file__).parents[2].as_uri(), "dir_info": {}}
    if "vcs_info" in origin:
        source = f"{origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}"
    elif "dir_info" in origin:
        return _from_clone(Path(url2pathname(urlsplit(origin["url"]).path)), extra)
    else:
        source = origin.get("url", "")
    wanted = f"multimodal-ser[{extra}]" + (f" @ {source}" if source else "")
    return f"pip install {shlex.quote(wanted)}"


def _from_clone(clone: Path, extra: str) -> str:
    if not (clone / "src" / "multimodal_ser").is_dir():  # such as an image's, removed after it
        return f"pip install '.[{extra}]' in a clone of multimodal-ser"
    place = Path() if clone == Path.cwd() else clone
    tested = ["-c", str(place / "constraints.txt")] if sys.version_info >= (3, 11) else []
    return shlex.join(["pip", "install", *tested, f"{place}[{extra}]"])


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "speaker"), counted(1200, "speaker"), counted(2, "class", "classes")
    ('1 speaker', '1,200 speakers', '2 classes')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some_of(names: Sequence[str]) -> str:
    """The first three names, with an ellipsis if there are more.

    >>> some_of(["a", "b"]), some_of(["a", "b", "c", "d"])
    ('a, b', 'a, b, c, …')
    """
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])


def one_of(kind: str, given: object, allowed: Iterable[object]) -> str:
    """Builds the message for a value that is not one of the allowed ones.

    Args:
        kind: what is being chosen, such as ``"corpus"``.
        given: the value that is not allowed.
        allowed: an iterable of the allowed names, in the order to show.

    >>> one_of("corpus", "emo", ["cremad", "emodb"])
    "unknown corpus 'emo'; choose one of: cremad, emodb"
    """
    names = ", ".join(str(name) for name in allowed)
    return f"unknown {kind} {given!r}; choose one of: {names}"


def refuse_twice(option: str, items: Sequence[str]) -> None:
    """Raises SerError if several items such as ``meld=no`` are about the same name."""
    named = [item.partition("=")[0] for item in items if "=" in item]
    for name in named:
        if named.count(name) > 1:
            both = " ".join(item for item in items if item.startswith(f"{name}="))
            raise SerError(f"{option} {both}: {name} is given twice; give it once")
