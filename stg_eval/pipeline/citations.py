"""What a run has to cite: the definitions and networks of its metrics, and its data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stg_eval import suites
from stg_eval.metrics import registry
from stg_eval.storage.record import RunRecord
from stg_eval.suites.sources import citations


def cited(run: RunRecord) -> Mapping[str, Sequence[str]]:
    """Return BibTeX entries by metric, and those of the data set under "". Metrics and suites that are not known here,
    of another machine or a file, cite nothing."""
    found: dict[str, Sequence[str]] = {"": ()}
    if run.suite in suites.names():
        found[""] = citations(suites.load(run.suite))
    for name in run.metrics:
        card = registry.find(name)
        found[name] = card.citations if card else ()
    return found
