"""Loads plug-ins: modules of other packages that add to the registries, by entry points.

A package names such a module in its pyproject.toml,

    [project.entry-points."multimodal_ser.plugins"]
    mine = "my_package.emotions"

and the module adds what it has: ``MODELS["recurrent"] = Recurrent``, and likewise to CORPORA,
ENCODERS, ADAPTERS and METRICS.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
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
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "a package"
            raise SerError(
                f"{package} names {point.value} as a plug-in, which cannot be imported ({error}); "
                "repair or uninstall it"
            ) from error


def code_of(*own: object) -> str:
    """A hash of the source of classes, objects and functions of one's own; empty if none is.

    It is that of their whole files, and of those of the classes of the same package that they
    derive from. What was made with other code is not taken for the same.
    """
    sources = set()
    for one in (one if hasattr(one, "__qualname__") else type(one) for one in own):
        package = one.__module__.partition(".")[0]
        for part in getattr(one, "__mro__", (one,)):
            if package not in _NOT_OWN and part.__module__.partition(".")[0] == package:
                # defined at a prompt, a class has no file, and its lines may not be kept
                places: tuple[Any, ...] = (sys.modules.get(part.__module__), part)
                for place in places:
                    with suppress(OSError, TypeError):
                        sources.add(inspect.getsource(place))
                        break
    text = "\0".join(sorted(sources))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""
