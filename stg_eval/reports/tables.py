"""Tables: a run's estimates as text, laid out once and then written as Markdown, LaTeX, CSV or HTML (`render`).

Every printed digit is made here, so a table, the page and a figure's label that show the same score show the same text.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stg_eval.storage.results import Column, Estimate, Results

NONE = "—"
LISTED = 5
"""How many missing clips or scores are named before "and N more"."""


@dataclass(frozen=True)
class Cell:
    """One value as printed, in plain ASCII digits and hyphens; the writers set typographic signs."""

    text: str = NONE
    low: str = ""
    high: str = ""
    best: bool = False
    mark: str = ""
    """"better" or "worse" where an interval (or test) says so, else empty."""
    after: str = ""
    """What stands in for an interval, e.g. "p = 0.012"."""
    note: int | None = None
    """Number of a note of the table, counted from 1."""


@dataclass(frozen=True)
class Row:
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    above: Literal["", "space", "rule"] = ""
    """What sets it off from the row before."""


@dataclass(frozen=True)
class Table:
    name: str
    """Stem of the files it is written to."""
    title: str
    heads: tuple[str, ...]
    """Heads of the label columns; the last labels of a row that are signatures are printed as code."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """Numbered notes; cells refer to them."""
    remarks: tuple[str, ...] = ()
    """What else a reader must know: metrics, signatures, and what is missing."""


def number(column: Column, value: float, *, signed: bool = False) -> str:
    """A score as printed: scaled, with the column's digits; "—" for nan."""
    if not math.isfinite(value):
        return NONE
    text = f"{value * column.scale:.{column.digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def head(column: Column) -> str:
    """Column head: short name and the direction that is better."""
    arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
    return column.short + arrow


def mark(column: Column, estimate: Estimate) -> str:
    """ "better" or "worse" than the baseline where the 95 % interval of the difference (or, without one, p < 0.05) says
    so; empty where this n cannot tell."""
    if not math.isfinite(estimate.difference) or estimate.difference == 0 or column.higher_is_better is None:
        return ""
    if math.isfinite(estimate.difference_low) and math.isfinite(estimate.difference_high):
        told = estimate.difference_low > 0 or estimate.difference_high < 0
    else:
        told = estimate.p_value < 0.05
    if not told:
        return ""
    return "better" if (estimate.difference > 0) == column.higher_is_better else "worse"


def value_cell(column: Column, estimate: Estimate) -> Cell:
    """The value with its interval."""
    interval = math.isfinite(estimate.low) and math.isfinite(estimate.high) and math.isfinite(estimate.value)
    return Cell(
        number(column, estimate.value),
        number(column, estimate.low) if interval else "",
        number(column, estimate.high) if interval else "",
    )


def difference_cell(column: Column, estimate: Estimate) -> Cell:
    """The paired difference from the baseline with its interval, or with its p-value where there is none."""
    if not math.isfinite(estimate.difference):
        return Cell()
    interval = math.isfinite(estimate.difference_low) and math.isfinite(estimate.difference_high)
    return Cell(
        number(column, estimate.difference, signed=True),
        number(column, estimate.difference_low, signed=True) if interval else "",
        number(column, estimate.difference_high, signed=True) if interval else "",
        mark=mark(column, estimate),
        after=f"p = {estimate.p_value:.2g}" if not interval and math.isfinite(estimate.p_value) else "",
    )


def best(column: Column, estimates: Sequence[Estimate | None]) -> list[bool]:
    """Which of a column's estimates are best, to the printed digit; none where fewer than two have a value."""
    printed = [math.nan if e is None or math.isnan(e.value) else float(number(column, e.value)) for e in estimates]
    known = [p for p in printed if not math.isnan(p)]
    if len(known) < 2 or column.higher_is_better is None:
        return [False] * len(printed)
    top = max(known) if column.higher_is_better else min(known)
    return [p == top for p in printed]


def score_table(results: Results) -> Table:
    """One row a variant: values with their intervals, best marked, and n."""
    notes: list[str] = []
    columns = []
    for column in results.columns:
        estimates = [results.estimate(v, column.name) for v in results.variants]
        cells = []
        for estimate, is_best in zip(estimates, best(column, estimates), strict=True):
            cell = value_cell(column, estimate) if estimate else Cell()
            note = None
            if cell.text == NONE:
                notes.append(_problem(column, estimate))
                note = len(notes)
            cells.append(Cell(cell.text, cell.low, cell.high, best=is_best, note=note))
        columns.append(cells)
    return Table(
        name="scores",
        title=run_title(results),
        heads=_heads(results),
        columns=(*(head(c) for c in results.columns), "n"),
        rows=tuple(
            Row(_labels(results, variant), (*cells, Cell(_n(results, variant["name"]))))
            for variant, *cells in zip(results.run["variants"], *columns, strict=True)
        ),
        notes=tuple(notes),
        remarks=(*_metrics(results), *missing(results)),
    )


def difference_table(results: Results) -> Table | None:
    """One row a variant: paired differences from the baseline; None where nothing is compared."""
    baseline = results.run.get("baseline")
    others = [v for v in results.run["variants"] if v["name"] != baseline]
    compared = [e for e in results.estimates if e.baseline is not None]
    if not others or not compared:
        return None
    rows = []
    for variant in others:
        estimates = [results.estimate(variant["name"], c.name) for c in results.columns]
        cells = [difference_cell(c, e) if e else Cell() for c, e in zip(results.columns, estimates, strict=True)]
        rows.append(Row(_labels(results, variant), tuple(cells)))
    return Table(
        name="differences",
        title=f"Difference from {variant_title(results, str(baseline))}, paired by case and seed",
        heads=_heads(results),
        columns=tuple(head(c) for c in results.columns),
        rows=tuple(rows),
        remarks=(
            "✓ better, ✗ worse: the 95 % interval of the difference (or, where there is none, p below 0.05) says so. "
            "No mark: cannot tell at this n.",
        ),
    )


def run_tables(results: Results) -> list[Table]:
    """The tables of one run, in reading order."""
    return [table for table in (score_table(results), difference_table(results)) if table]


def markdown(results: Results) -> str:
    """The tables of a run as Markdown, for standard output; those of the paper too where the run holds rows of them. On
    a terminal that is too narrow for a table, its metrics stand one below the other."""
    from stg_eval.reports.paper import paper_tables
    from stg_eval.reports.render import to_markdown, width

    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    own = [min(table, turned(table), key=width) if width(table) > room else table for table in run_tables(results)]
    return "\n".join(to_markdown(table) for table in [*own, *paper_tables([results])])


def turned(table: Table) -> Table:
    """The same table with a row for each column and a column for each row."""
    return replace(
        table,
        heads=("",),
        columns=tuple(" ".join(dict.fromkeys(row.labels)) for row in table.rows),
        rows=tuple(Row((name,), tuple(row.cells[i] for row in table.rows)) for i, name in enumerate(table.columns)),
    )


def variant_title(results: Results, name: str) -> str:
    """A variant as a reader calls it: its title, or its name."""
    return next((str(v.get("title") or v["name"]) for v in results.run["variants"] if v["name"] == name), name)


def run_name(results: Results) -> str:
    return str(results.run.get("name") or results.path.name)


def run_title(results: Results) -> str:
    """What was run, in one line."""
    run = results.run
    seeds = list(run.get("seeds") or [])
    parts = [str(run.get("title") or run.get("suite", "")), str(run.get("model_title") or run.get("model", ""))]
    if seeds:
        parts.append(f"seed{'s' if len(seeds) > 1 else ''} {_ranges(seeds)}")
    return ", ".join(p for p in parts if p)


def missing(results: Results) -> list[str]:
    """What is not there, in plain lines: clips that were asked for, scores that are not numbers, too few variants."""
    lines = []
    absent = list(results.run.get("missing") or [])
    if absent:
        named = [
            f"{variant_title(results, m['variant'])}, case {m['case']}, seed {m['seed']} ({m['problem']})"
            for m in absent[:LISTED]
        ]
        of = f" of {results.run['expected']}" if results.run.get("expected") else ""
        lines.append(f"Missing: {len(absent)}{of} clips. {_listed(named, len(absent))}")
    for column in results.columns:
        if column.kind == "clip" and column.name in results.scores:
            lines += _without_score(results, column)
    if len(results.variants) == 1:
        lines.append("One variant only: nothing is compared.")
    return lines


def _without_score(results: Results, column: Column) -> list[str]:
    """Clips that are there and should have a score of this metric, and have none; of a metric that counts static clips
    only, how many it counts."""
    absent = {(m["variant"], str(m["case"]), m["seed"]) for m in results.run.get("missing") or []}
    problems = {p["key"]: p["problem"] for p in results.run.get("problems") or [] if p["metric"] == column.name}
    keep = results.run.get("keep_static") or {}
    scores = results.scores[results.wanted(column.name)]
    scored = scores[column.name].notna()
    if column.name in keep:
        counted = f"{scored.sum():,} of {len(scores):,} clips"
        return [f"{column.title} counts the first {keep[column.name]} static clips of each case: {counted}."]
    named = [
        f"{variant_title(results, str(v))}, case {case}, seed {seed} ({problems.get(key, 'NaN')})"
        for v, case, seed, key in scores[~scored][["variant", "case", "seed", "key"]].itertuples(index=False)
        if (v, str(case), seed) not in absent
    ]
    if not named:
        return []
    return [f"No {column.title} score: {len(named)} of {len(scores)} clips. {_listed(named[:LISTED], len(named))}"]


def _heads(results: Results) -> tuple[str, ...]:
    titled = any(variant_title(results, v["name"]) != v["signature"] for v in results.run["variants"])
    return ("Variant", "Guidance") if titled else ("Guidance",)


def _labels(results: Results, variant: dict[str, str]) -> tuple[str, ...]:
    return (variant_title(results, variant["name"]), variant["signature"])[-len(_heads(results)) :]


def _ranges(numbers: list[int]) -> str:
    """ "0-4, 7" for 0, 1, 2, 3, 4, 7."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _listed(named: list[str], count: int) -> str:
    return "; ".join(named) + (f"; and {count - len(named)} more." if count > len(named) else ".")


def _problem(column: Column, estimate: Estimate | None) -> str:
    if estimate is None:
        return f"{column.title}: not scored."
    return f"{column.title}: {estimate.problem or 'no value (NaN)'}" + ("" if estimate.problem.endswith(".") else ".")


def _n(results: Results, variant: str) -> str:
    """Number of clips behind a row; the exceptions by name, e.g. "192 (IS 190)"."""
    counts = {c.short: e.n for c in results.columns if (e := results.estimate(variant, c.name))}
    if not counts:
        return NONE
    usual = Counter(counts.values()).most_common(1)[0][0]
    others = [f"{short} {n}" for short, n in counts.items() if n != usual]
    return f"{usual}" + (f" ({', '.join(others)})" if others else "")


def _metrics(results: Results) -> list[str]:
    lines = []
    for c in results.columns:
        better = {True: "higher", False: "lower", None: "neither direction"}[c.higher_is_better]
        lines.append(f"{c.short}: {c.title}, {better} is better. {c.note}{' ' if c.note else ''}`{c.signature}`")
    return lines
