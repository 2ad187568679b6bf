"""Loads plug-ins: modules of other packages that add to the registries, by entry points.

A package names such a module in its pyproject.toml,

    [project.entry-points."multimodal_ser.plugins"]
    mine = "my_package.emotions"

and the module adds what it has: ``MODELS["recurrent"] = Recurrent``, and likewise to CORPORA,
ENCODERS, ADAPTERS, LOSSES and METRICS.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from multimodal_ser.errors import SerError

_NOT_OWN = {__name__.partition(".")[0], *sys.stdlib_module_names}
_GROUP = "multimodal_ser.plugins"  # other packages name it: it stays, wherever this module moves


@cache
def load_plugins() -> None:
    """Imports the modules that installed packages name, once a process.

    Raises:
        SerError: one cannot be imported.
    """
    for point in entry_points(group=_GROUP):
        try:
            point.load()
        except (ImportError, AttributeError, SystemExit) as error:
            package = point.dist.name if point.dist else "a package"
            # a script without a main guard ends the whole process when it is imported
            why = f"it exits with {error}" if isinstance(error, SystemExit) else error
            raise SerError(
                f"{package} names {point.value} as a plug-in, which cannot be imported ({why}); "
                "repair or uninstall it"
            ) from error


def code_of(*own: object) -> str:
    """A hash of the source of those classes, objects and functions that are a user's; else empty.

    It is that of their whole files, of those of the classes of the same package that they derive
    from, and of what these files import from their package or folder. What was made with other code
    is not taken for the same. Of a ``functools.partial`` the arguments count too.
    """
    sources = set()
    for one in own:
        while isinstance(one, functools.partial):
            arguments = repr((one.args, sorted(one.keywords.items())))
            sources.add(re.sub(" at 0x[0-9a-f]+", "", arguments))  # addresses change by themselves
            one = one.func
        kind: Any = one if hasattr(one, "__qualname__") else type(one)
        package = kind.__module__.partition(".")[0]
        for part in getattr(kind, "__mro__", (kind,)):
            if package not in _NOT_OWN and part.__module__.partition(".")[0] == package:
                sources |= {_source(sys.modules[name]) for name in _used_by(part.__module__)}
                # defined at a prompt, a class has no file, and its lines may not be kept
                if not _source(sys.modules.get(part.__module__)):
                    sources.add(_source(part))
    text = "\0".join(sorted(sources - {""}))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _source(one: Any) -> str:
    with suppress(OSError, TypeError):
        return inspect.getsource(one)
    return ""


def _used_by(name: str) -> set[str]:
    """A module and, recursively, those of its own package or folder that it refers to."""
    found, rest = set(), [name] if name in sys.modules else []
    while rest:
        found.add(own := rest.pop())
        names = [
            getattr(one, "__name__" if inspect.ismodule(one) else "__module__", None)
            for one in [*vars(sys.modules[own]).values()]
        ]
        known = {name for name in names if isinstance(name, str) and name in sys.modules}
        rest += [name for name in known - found if _beside(own, name)]
    return found


def _beside(own: str, other: str) -> bool:
    """Whether one module belongs to the package of another, or to the folder of a script."""
    package = other.partition(".")[0]
    if package in _NOT_OWN:
        return False
    if package == own.partition(".")[0]:
        return True
    files = [getattr(sys.modules[name], "__file__", None) for name in (own, other)]
    folder, place = (Path(file or ".").resolve().parent for file in files)
    # Installed packages lie side by side in one folder, whoever made them.
    installed = {"site-packages", "dist-packages"} & {*folder.parts, *place.parts}
    return all(files) and not installed and place.is_relative_to(folder)
