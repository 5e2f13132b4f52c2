"""Lays out what people said of a run: rating.json, which `stg-eval rate export` writes beside its table.json."""

from __future__ import annotations

import json
from typing import Any

from stg_eval.reports.table import Cell, Row, Table
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

TITLES = {
    "video_quality": "Video quality",
    "text_alignment": "Text alignment",
    "motion_quality": "Motion quality",
    "temporal_consistency": "Temporal consistency",
    "likeness": "Subjective likeness",
}
"""Aspects by the paper's names (Appendix A2)."""


def people_table(results: Results) -> Table | None:
    """Lay out the human study, one row an aspect; None where there is none.

    Raises StgEvalError for a damaged rating.json.
    """
    file = results.path / "rating.json"
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        rows = record["figures"]
        single = record["settings"]["mode"] == "single"
        columns = _mean_columns(rows) if single else _preference_columns(rows)
        aspects = list(dict.fromkeys(row["aspect"] for row in rows))
        table = Table(
            name="people",
            title="Human study: mean ratings, 1 to 5" if single else "Human study: preferences in pairs",
            heads=("Aspect",),
            columns=(*columns, "alpha", "Best metric"),
            rows=tuple(
                Row(
                    (TITLES.get(aspect, aspect),),
                    (
                        *(column[aspect] for column in columns.values()),
                        Cell(_two(record["reliability"][aspect])),
                        _best_metric(record["agreement"], aspect),
                    ),
                )
                for aspect in aspects
            ),
            remarks=(_raters(record["raters"]), ALPHA),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StgEvalError(f"{file} is damaged ({error}); run `stg-eval rate export` again") from error
    return table


ALPHA = (
    "Intervals resample cases. alpha: Krippendorff's, ordinal; 1 is full agreement between raters, 0 what chance "
    "gives. Best metric: the automatic score that agrees best with people over clips, by Spearman's correlation."
)


def _mean_columns(rows: list[dict[str, Any]]) -> dict[str, dict[str, Cell]]:
    """Return a column of means for each variant, then one of differences for each but the baseline: aspect -> cell."""
    columns: dict[str, dict[str, Cell]] = {}
    for row in rows:
        columns.setdefault(row["variant"], {})[row["aspect"]] = Cell(
            _two(row["mean"]), _two(row["low"]), _two(row["high"])
        )
    for row in rows:
        if row.get("difference") is not None:
            columns.setdefault(f"{row['variant']} − baseline", {})[row["aspect"]] = _signed(row, "difference")
    return columns


def _preference_columns(rows: list[dict[str, Any]]) -> dict[str, dict[str, Cell]]:
    """Return wins, equal, losses and the net preference of each variant: aspect -> cell."""
    columns: dict[str, dict[str, Cell]] = {}
    for row in rows:
        for name in ("wins", "equal", "losses"):
            columns.setdefault(f"{row['variant']} {name}", {})[row["aspect"]] = Cell(f"{row[name]:.0%}")
        columns.setdefault(f"{row['variant']} net", {})[row["aspect"]] = _signed(row, "net")
    return columns


def _signed(row: dict[str, Any], name: str) -> Cell:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    mark = "" if low is None or low <= 0 <= high else "better" if low > 0 else "worse"
    text, below, above = (f"{x:+.2f}" if x is not None else "" for x in (row[name], low, high))
    return Cell(text, below, above, mark=mark)


def _best_metric(agreement: list[dict[str, Any]], aspect: str) -> Cell:
    """Return the first of the aspect's metrics, which are listed best first."""
    found = next((row for row in agreement if row["aspect"] == aspect and row["correlation"] is not None), None)
    return Cell(f"{found['metric']} {found['correlation']:.2f}") if found else Cell()


def _raters(raters: list[dict[str, Any]]) -> str:
    named = [f"{row['rater']}: {row['remark']}" for row in raters if row["remark"]]
    said = f" Noticed: {'; '.join(named)}." if named else ""
    return f"{len(raters)} raters, {sum(row['clips'] for row in raters)} answers.{said}"


def _two(value: float | None) -> str:
    return f"{value:.2f}" if value is not None else "—"
