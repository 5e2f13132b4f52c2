"""How many pairs fit into the seconds of an evaluation: what one costs is measured, and room is kept for the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass

CAREFUL = 1.25
"""A pair is taken to cost so many times what the dearest cost: other work on the machine comes and goes."""
CAREFUL_CLOSING = 2.0
"""The same of what comes behind the pairs, which is small, and waits for disks and servers."""


@dataclass
class Budget:
    """The seconds of each evaluation, and what was learnt from those before."""

    seconds: float
    pair: float = 0.0
    """What the dearest pair of the latest evaluation cost."""
    cheapest: float = 0.0
    """What the cheapest pair of all has cost."""
    closing: float = 0.0
    """What tables, verdicts and trackers cost, behind the pairs, the last time."""
    _begun: float = 0.0
    _mark: float = 0.0

    def begin(self) -> None:
        """Begin an evaluation."""
        self._begun = self._mark = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the evaluation began."""
        return time.perf_counter() - self._begun

    def fits(self, first: bool) -> bool:
        """Tell whether one more pair fits. The first of an evaluation may be as cheap as the cheapest was: the latest
        may have met a busy machine."""
        pair = self.cheapest if first else CAREFUL * self.pair
        return self.elapsed + pair + CAREFUL_CLOSING * self.closing <= self.seconds

    def start(self) -> None:
        """Begin to measure a part."""
        self._mark = time.perf_counter()

    def made(self, first: bool) -> None:
        """Take what was measured for a pair."""
        took = time.perf_counter() - self._mark
        self.pair = took if first else max(self.pair, took)
        self.cheapest = min(self.cheapest or took, took)

    def closed(self) -> None:
        """Take what was measured for what comes behind the pairs."""
        self.closing = time.perf_counter() - self._mark

    def began(self) -> None:
        """Take what it cost to begin the tracker's run for what it will cost to go on with it: it will rather be less,
        and must not keep the first evaluation from finding out."""
        self.closing += max(0.0, min(time.perf_counter() - self._mark, self.seconds / 4 - self.closing))
