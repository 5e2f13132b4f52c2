"""Finds what other packages add: metrics, models and datasets, each named in a package's metadata as an entry point.

[project.entry-points."stg_eval.models"]
mine = "my_package:MODEL"
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from importlib.metadata import entry_points
from typing import Any


def plug_ins(group: str, name_of: Callable[[str, Any], str], taken: Container[str]) -> dict[str, Any]:
    """Say what other packages offer under an entry point group such as "stg_eval.models", by name.

    name_of: gives a loaded object's name from the entry point's name and the object; it raises TypeError, with a reason
    as text, for an object of the wrong kind. taken: names that are in use already.

    One that fails to import, exits while it is imported, is of the wrong kind or takes a name in use is reported
    through the log and left out, so that it cannot stop a run that does not need it.
    """
    found: dict[str, Any] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: (e.name, e.value)):
        try:
            loaded = entry.load()
            name = name_of(entry.name, loaded)
            if name in taken or name in found:
                raise TypeError(f"the name {name!r} is in use already")
        except (Exception, SystemExit) as error:  # whatever a stranger's module does on import
            reason = f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).warning(
                "%s plug-in %s (%s) is left out: %s", group, entry.name, entry.value, " ".join(reason.split())
            )
        else:
            found[name] = loaded
    return found
