"""What counts as a regression: how large a difference matters, and how sure one must be."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stg_eval.metrics import registry
from stg_eval.types import StgEvalError

LEVEL = 0.05

MARGINS: dict[str, str | float] = {
    # What papers print as a gain matters: about half of what STG gains over CFG in its Tables 1 and 2
    # (TF +.002, MS +.002 and +.003, IQ +.007, AQ +.002 on SVD, FVD -15 %, IS +1.3 %).
    "temporal_flickering": 0.001,
    "motion_smoothness": 0.001,
    "imaging_quality": 0.004,
    "aesthetic_quality": 0.001,
    "fvd": "5%",
    "fvd_unbiased": "5%",
    "is": "1%",
    "is_tgan": "1%",
    "is_tganv2": "1%",
    # Shares of clips: one clip in twenty.
    "dynamic_degree": 0.05,
    "static_filter": 0.05,
    "accuracy_sprites": 0.05,
    "recall_sprites": 0.05,
    # The embedded model's, after their big relatives; a twentieth more or less motion.
    "fvd_sprites": "5%",
    "is_sprites": "1%",
    "pixel_distance_sprites": "5%",
    "frame_difference_sprites": "5%",
    # Equal code moves no clip, or a rare one at the edge of two outcomes.
    "moved": 0.02,
}
"""Smallest difference that matters: in the metric's own unit, or in per cent of the baseline's value."""
MOVED = "moved"
"""No metric: the share of clips that are no longer the same although the request is, see `stg_eval.gate.moved`."""
OTHER_MARGIN = "2%"
"""For metrics of other packages."""
UNGATED = frozenset({"static_filter"})
"""Shown, but cannot fail: it only says which clips another metric counts."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What counts as a regression."""

    level: float = LEVEL
    """Chance of any false alarm over all metrics of a comparison of equals."""
    margins: Mapping[str, str | float] = field(default_factory=lambda: dict(MARGINS))
    ungated: frozenset[str] = UNGATED
    """Metrics that are shown but cannot fail the gate."""
    moved: bool | None = None
    """Whether clips that moved fail the gate; None: where both sides are float32."""
    golden: Mapping[str, float] = field(default_factory=dict)
    """Overrides of `stg_eval.gate.golden.GATES`."""

    def margin(self, metric: str, baseline_value: float) -> float:
        """Smallest difference that matters, in the metric's unit."""
        margin = self.margins.get(metric, OTHER_MARGIN)
        return float(margin.rstrip("%")) / 100 * abs(baseline_value) if isinstance(margin, str) else margin


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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
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
        margins=MARGINS | margins,
        ungated=frozenset(name for name in {*UNGATED, *gate} - {MOVED} if not gate.get(name, False)),
        moved=gate.get(MOVED),
        golden=data.get("golden", {}),
    )


def _is_margin(value: Any) -> bool:
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(value.rstrip("%")) >= 0
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
