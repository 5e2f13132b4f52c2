"""Writes a run's tables for standard output."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace

from stg_eval.reports.paper import paper_tables
from stg_eval.reports.table import Table, turned
from stg_eval.reports.tables import run_tables
from stg_eval.reports.titles import missing
from stg_eval.reports.writers.markdown import to_markdown, width
from stg_eval.storage.results import Results

MORE = "✓ better, ✗ worse, says the interval; no mark: cannot tell. All about it: --wide"


def markdown(results: Results, *, wide: bool = False) -> str:
    """Write the tables of a run as Markdown, those of the paper too where the run holds rows of them.

    On a terminal, unless `wide`, what fits: where a table has no room, its metrics stand one below the other, or else
    as many of its columns as there is room for; what each metric means is left to the page.
    """
    room = math.inf if wide or not sys.stdout.isatty() else shutil.get_terminal_size().columns
    own = run_tables(results)
    if room < math.inf:
        own = [_fitting(replace(table, remarks=()), room) for table in own]
        own[-1] = replace(own[-1], remarks=(*own[-1].remarks, *missing(results), MORE))
    return "\n".join(to_markdown(table) for table in [*own, *paper_tables([results])])


def _fitting(table: Table, room: float) -> Table:
    """Return the table in at most `room` columns of a terminal, if its labels and one metric do not take more."""
    shapes = [table, turned(table)]
    shapes += [table.first(n) for n in range(len(table.columns) - 1, 0, -1)]
    return next((shape for shape in shapes if width(shape) <= room), shapes[-1])
