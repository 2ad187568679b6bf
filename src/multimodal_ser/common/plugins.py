"""Loads plug-ins: modules of other packages that add to the registries, by entry points.

A package names such a module in its pyproject.toml,

    [project.entry-points."multimodal_ser.plugins"]
    mine = "my_package.emotions"

and the module adds what it has: ``MODELS["recurrent"] = Recurrent``, and likewise to CORPORA,
ENCODERS, ADAPTERS and METRICS.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from multimodal_ser.errors import SerError

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
