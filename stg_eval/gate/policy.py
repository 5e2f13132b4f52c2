"""Says what counts as a regression: how large a difference matters, and how sure one must be."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stg_eval.metrics import MetricCard, registry
from stg_eval.types import StgEvalError

LEVEL = 0.05

MOVED = "moved"
"""No metric: the share of clips that are no longer the same although the request is, see `stg_eval.gate.moved`."""
MOVED_MARGIN = 0.02
"""Equal code moves no clip, or a rare one at the edge of two outcomes."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What counts as a regression."""

    level: float = LEVEL
    """Chance of any false alarm over all metrics of a comparison of equals."""
    margins: Mapping[str, str | float] = field(default_factory=dict)
    """Smallest differences that matter, other than those on the metrics' cards."""
    gate: Mapping[str, bool] = field(default_factory=dict)
    """Whether a metric can fail the gate, other than its card says."""
    moved: bool | None = None
    """Whether clips that moved fail the gate; None: where both sides are float32."""
    golden: Mapping[str, float] = field(default_factory=dict)
    """Overrides of `stg_eval.gate.golden.GATES`."""

    def margin(self, metric: str, baseline_value: float) -> float:
        """Return smallest difference that matters, in the metric's unit."""
        margin = self.margins.get(metric, MOVED_MARGIN if metric == MOVED else _card(metric).margin)
        return float(margin.rstrip("%")) / 100 * abs(baseline_value) if isinstance(margin, str) else margin

    def gated(self, metric: str) -> bool:
        """Tell whether a metric can fail the gate."""
        return self.gate.get(metric, _card(metric).gated)


def read_policy(path: Path | None) -> Policy:
    """Read a TOML file::

        level = 0.05
        [margins]              # smallest difference that matters: own unit, or "5%" of the baseline
        fvd = "10%"
        imaging_quality = 0.02
        [gate]                 # false: shown, but cannot fail the gate
        dynamic_degree = false
        moved = false          # clips that are no longer the same; by default gated in float32 alone
        [golden]
        psnr = 45

    Raises StgEvalError with the file and the entry.
    """
    if path is None:
        return Policy()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StgEvalError(f"cannot read {path}: {error}") from error
    unknown = data.keys() - {"level", "margins", "gate", "golden"}
    if unknown:
        raise StgEvalError(f"{path}: unknown entry {sorted(unknown)[0]!r} (known: level, margins, gate, golden)")
    for name in data.keys() - {"level"}:
        if not isinstance(data[name], dict):
            raise StgEvalError(f"{path}: {name} must be a table, [{name}], not {data[name]!r}")
    level, margins, gate = data.get("level", LEVEL), data.get("margins", {}), data.get("gate", {})
    if not (isinstance(level, float) and 0 < level < 1):
        raise StgEvalError(f"{path}: level must lie between 0 and 1, not {level!r}")
    for name in {*margins, *gate} - {MOVED}:
        registry.card(name)
    for name, margin in margins.items():
        if name == MOVED and not (isinstance(margin, float) and margin < 1):
            raise StgEvalError(f"{path}: margins.{name} must be a share of the clips such as 0.02, not {margin!r}")
        if not _is_margin(margin):
            raise StgEvalError(f'{path}: margins.{name} must be a number or per cent such as "5%", not {margin!r}')
    for name, value in gate.items():
        if not isinstance(value, bool):
            raise StgEvalError(f"{path}: gate.{name} must be true or false, not {value!r}")
    return Policy(
        level=level,
        margins=margins,
        gate={name: value for name, value in gate.items() if name != MOVED},
        moved=gate.get(MOVED),
        golden=data.get("golden", {}),
    )


def _card(metric: str) -> MetricCard | type[MetricCard]:
    """Return the card; of a metric that is not installed here, what cards have by default."""
    return registry.find(metric) or MetricCard


def _is_margin(value: Any) -> bool:
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(value.rstrip("%")) >= 0
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
