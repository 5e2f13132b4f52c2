"""The figures of a human study on the terminal."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from stg_eval.cli.listing import print_table
from stg_eval.rating.export import Summary


def print_summary(summary: Summary) -> None:
    """Print means or preference rates, reliability, what was noticed of raters, and the best metric of each aspect."""
    rows = _records(summary.figures)
    if "mean" in summary.figures:
        print_table(
            ["aspect", "variant", "n", "mean", "95 %", "difference", "95 %"],
            [[*_head(r), *_cells(r, "mean", "low", "high"), *_differences(r)] for r in rows],
        )
    else:
        shares = ("wins", "equal", "losses")
        print_table(
            ["aspect", "variant", "n", *shares, "net", "95 %"],
            [[*_head(r), *(f"{r[s]:.0%}" for s in shares), *_cells(r, "net", "net_low", "net_high")] for r in rows],
        )
    print_table(["aspect", "Krippendorff's alpha"], [[n, _two(value)] for n, value in summary.reliability.items()])
    raters = [
        [
            *(r["rater"], str(r["clips"]), f"{r['median_seconds']:.0f}", _two(r["agreement"])),
            *(f"{r['anchors_failed']} of {r['anchors']}", r["remark"]),
        ]
        for r in _records(summary.raters)
    ]
    print_table(["rater", "clips", "s a clip", "agreement", "anchors failed", ""], raters)
    best = summary.agreement.dropna(subset=["correlation"]).groupby("aspect", sort=False).head(1)
    if len(best):
        rows = _records(best)
        found = [[r["aspect"], r["metric"], *_cells(r, "correlation", "low", "high"), str(r["n"])] for r in rows]
        print_table(["aspect", "best metric", "Spearman", "95 %", "clips"], found)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _head(row: dict[str, Any]) -> list[str]:
    return [row["aspect"], row["variant"], str(row["n"])]


def _differences(row: dict[str, Any]) -> list[str]:
    if math.isnan(row.get("difference", math.nan)):
        return ["-", "-"]
    return _cells(row, "difference", "difference_low", "difference_high")


def _cells(row: dict[str, Any], value: str, low: str, high: str) -> list[str]:
    interval = "-" if math.isnan(row[low]) else f"[{row[low]:.2f}, {row[high]:.2f}]"
    return [_two(row[value]), interval]


def _two(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
