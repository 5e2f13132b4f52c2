"""One page over many runs: leaderboards, a trade-off, histories, and the pairs of any two runs.

A static folder that needs no network: the page holds what tables and plots show; the scores and clips of a run lie in
files beside it, which the browser reads when two runs are compared and a pair comes into view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval.reports.cells import number
from stg_eval.reports.gallery import store_of
from stg_eval.reports.overview.board import Board, boards
from stg_eval.reports.overview.history import History, Margin, histories, told_apart
from stg_eval.reports.overview.shelf import Shelf, script_of
from stg_eval.reports.pages import finite, part, render, safe, script_data
from stg_eval.reports.titles import listed
from stg_eval.storage import atomic
from stg_eval.storage.record import RunRecord
from stg_eval.storage.results import Column, Estimate, Results

SCRIPTS = ("stats.js", "board.js", "plots.js", "pairs.js", "page.js")


def write_overview(
    runs: Sequence[Results],
    found: Sequence[Board],
    store_root: Path,
    out: Path,
    new: Path,
    margin: Margin,
    left_out: Sequence[str],
) -> None:
    """Write the page and the scripts of `runs` to folder `new`, which becomes `out`; clips go to `out`/clips now.

    Args:
        found: `boards` of the runs.
        store_root: holds the clips of runs whose own store is gone.
        margin: the smallest difference that matters, for the changes in histories.
        left_out: what could not be read, a line each.
    """
    stores = [store_of(run, store_root) for run in runs]
    shelf = Shelf(out, list(zip(runs, stores, strict=True)))
    for i, (run, store) in enumerate(zip(runs, stores, strict=True)):
        atomic.write(new / "runs" / f"{i:04}.js", script_of(i, run, store, shelf))
    data = {"runs": [_run(run) for run in runs], "boards": [_board(board, margin) for board in found]}
    models = dict.fromkeys(run.run.model for run in runs)
    page = render(
        part("overview", "page.html"),
        title=f"{len(runs)} runs",
        facts=[
            ", ".join(f"{board.title} ({len({e.place for e in board.entries})} runs)" for board in found),
            f"{len(models)} model{'s' * (len(models) != 1)}: {listed(list(models)[:8], len(models))}",
        ],
        alerts=[*_alerts(runs), *(f"Left out: {line}" for line in left_out)],
        tables=[f"leaderboard-{i + 1}" if len(found) > 1 else "leaderboard" for i in range(len(found))],
        style=safe(part("gallery", "style.css") + part("overview", "style.css")),
        script=safe(part("gallery", "clips.js") + "".join(part("overview", name) for name in SCRIPTS)),
        data=safe(script_data(data)),
    )
    atomic.write(new / "index.html", page)


def _alerts(runs: Sequence[Results]) -> Iterator[str]:
    """Say what holds of many runs once, with their number."""
    random = sum(run.run.weights.startswith("random") for run in runs)
    if random:
        told = "they show that everything runs, and say nothing about any model"
        yield f"{random} of {len(runs)} runs have random weights: {told}."
    absent = [run for run in runs if run.run.missing]
    if absent:
        yield f"{len(absent)} of {len(runs)} runs lack clips; their own reports name them."
    for note, count in Counter(note for run in runs for note in run.run.notes).most_common(5):
        yield note if len(runs) == 1 else f"{count} of {len(runs)} runs: {note}"


def _run(run: Results) -> dict[str, Any]:
    record = run.run
    asked = record.request
    return {
        "name": run.path.name,
        "model": record.model,
        "weights": record.weights,
        "commit": record.provenance.git_commit or "",
        "about": _about(record),
        # What a pair must share beside suite, prompt and seed, as the gate has it.
        "shape": [asked.height, asked.width, asked.num_frames, asked.fps, asked.encoding] if asked else None,
    }


def _about(record: RunRecord) -> list[list[str]]:
    """Say what may differ between two runs that are compared."""
    asked, made = record.request, record.provenance
    told = {
        "weights": record.weights,
        "steps": asked.num_inference_steps if asked else "",
        "dtype": asked.dtype if asked else "",
        "settings": ", ".join(f"{k}={v}" for k, v in sorted((asked.settings if asked else {}).items())),
        "commit": made.git_commit or "",
        "stg-eval": made.stg_eval,
        "device": made.gpu or made.device,
    } | dict(made.packages)
    return [[key, str(value)] for key, value in told.items() if value not in ("", None)]


def _board(board: Board, margin: Margin) -> dict[str, Any]:
    rows = [
        {"run": e.place, "variant": e.variant.name, "signature": e.variant.signature, "family": e.family}
        for e in board.entries
    ]
    for i in board.latest:
        rows[i]["latest"] = True
    columns = []
    for column, ways, ranked, beaten in board.standings:
        cells = [_cell(column, e.estimate(column.name), way) for e, way in zip(board.entries, ways, strict=True)]
        columns.append(
            {
                "name": column.name,
                "title": column.title,
                "short": column.short,
                "higher": column.higher_is_better,
                "digits": column.digits,
                "scale": column.scale,
                "kind": column.kind,
                "note": column.note,
                "signature": column.signature,
                "cells": cells,
                "ranked": list(ranked),
                "beaten": [_bits(row) for row in beaten],
            }
        )
    return {
        "suite": board.suite,
        "title": board.title,
        "rows": rows,
        "columns": columns,
        "histories": [_history(board, one) for one in histories(board, margin)],
    }


def _cell(column: Column, estimate: Estimate | None, way: int | None) -> list[Any] | None:
    """[value, low, high, printed value, printed low, printed high, n, way]; null for none."""
    if estimate is None:
        return None
    values = (estimate.value, estimate.low, estimate.high)
    scaled = [None if (x := finite(value)) is None else float(f"{x * column.scale:.7g}") for value in values]
    return [*scaled, *(number(column, value) for value in values), estimate.n, way]


def _bits(row: np.ndarray) -> str:
    """Write which of those that are ranked beat this one, eight to a byte, in hexadecimal digits; empty for none."""
    return np.packbits(row, bitorder="little").tobytes().rstrip(b"\0").hex()


def _history(board: Board, history: History) -> dict[str, Any]:
    column = history.column
    changes = []
    for one in history.changes:
        runs = [board.entries[history.rows[i]].run.run for i in (one.at - 1, one.at)]
        better = None if column.higher_is_better is None else (one.difference > 0) == column.higher_is_better
        changes.append(
            {
                "at": one.at,
                "found": one.found,
                "text": number(column, one.difference, signed=True),
                "low": number(column, one.low, signed=True),
                "high": number(column, one.high, signed=True),
                "word": "changed" if better is None else "better" if better else "worse",
                "with": told_apart(*runs),
            }
        )
    names = [c.column.name for c in board.standings]
    return {"column": names.index(column.name), "rows": list(history.rows), "changes": changes}


__all__ = ["Board", "Margin", "boards", "write_overview"]
