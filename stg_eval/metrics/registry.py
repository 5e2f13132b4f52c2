"""Which metrics there are: those whose files lie in this package, and those that other packages bring along.

A package adds metrics by naming cards in its metadata, under the entry point group ``stg_eval.metrics``::

    [project.entry-points."stg_eval.metrics"]
    sharpness = "my_package.metrics:CARD"
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from stg_eval import plug_ins as finding
from stg_eval import weights
from stg_eval.metrics import ClipScorer, MetricCard, PairScorer, SetMetric
from stg_eval.types import StgEvalError

ENTRY_POINT_GROUP = "stg_eval.metrics"


def _cards() -> Iterator[MetricCard]:
    """Yield the cards of every file in this package that defines CARD or CARDS. Others (networks) are not imported."""
    home = Path(__file__).parent
    for path in sorted(home.rglob("*.py")):
        if re.search(r"^CARDS?\b.* = ", path.read_text(encoding="utf-8"), re.MULTILINE):
            module = importlib.import_module(".".join((__package__, *path.relative_to(home).with_suffix("").parts)))
            yield from getattr(module, "CARDS", None) or (module.CARD,)


METRICS: dict[str, MetricCard] = {
    card.name: card for card in sorted(_cards(), key=lambda card: (card.embedded, card.kind))
}
"""The metrics of this package, by name: published ones before embedded ones, those of clips before those of sets."""


@cache
def plug_ins() -> Mapping[str, MetricCard]:
    """Return cards of other packages, see `stg_eval.plug_ins`."""

    def name_of(_: str, loaded: object) -> str:
        if not isinstance(loaded, MetricCard):
            raise TypeError(f"it is a {type(loaded).__name__}, not a stg_eval.metrics.MetricCard")
        return loaded.name

    return finding.plug_ins(ENTRY_POINT_GROUP, name_of, METRICS)


def find(name: str) -> MetricCard | None:
    """Return the card of a metric; None for one that is not installed here, as in a run made elsewhere."""
    return METRICS.get(name) or plug_ins().get(name)  # plug-ins are not even imported for a metric of our own


def card(name: str) -> MetricCard:
    """Return the card of a metric. Raises StgEvalError with the nearest name for an unknown one."""
    if found := find(name):
        return found
    known = [*METRICS, *plug_ins()]
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StgEvalError(f"unknown metric {name!r}{hint} (known: {', '.join(known)})")


def load(card: MetricCard, device: str) -> ClipScorer | SetMetric:
    """Bring in the metric's networks. Raises StgEvalError for missing weights (with the command) or packages."""
    if card.load is None:
        raise StgEvalError(f"{card.name} scores no single clips: it is a total of other metrics, or compares pairs")
    with _said_of(card):
        try:
            return card.load(device)
        except StgEvalError as error:
            names = [row.name for row in card.weights if not weights.is_present(row)]
            if len(names) < 2:
                raise
            everything = f"all of it: stg-eval weights fetch {' '.join(names)}"
            raise StgEvalError(f"{error}; {everything}") from error


def load_pair(card: MetricCard, device: str) -> PairScorer:
    """Return `load` for a metric of pairs."""
    assert card.load_pair is not None
    with _said_of(card):
        return card.load_pair(device)


@contextmanager
def _said_of(card: MetricCard) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise StgEvalError(f"metric {card.name!r} cannot be loaded: {error}") from error


def signed(signature: str, num_clips: int) -> str:
    """Map a set metric's signature with the number of clips behind a value: ``FVD|...|n*|...`` ->
    ``FVD|...|n2048|...``."""
    return signature.replace("|n*|", f"|n{num_clips}|")
