"""Writes a run's tables for standard output."""

from __future__ import annotations

import math
import shutil
import sys

from stg_eval.reports.paper import paper_tables
from stg_eval.reports.table import turned
from stg_eval.reports.tables import run_tables
from stg_eval.reports.writers.markdown import to_markdown, width
from stg_eval.storage.results import Results


def markdown(results: Results) -> str:
    """Write the tables of a run as Markdown, those of the paper too where the run holds rows of them. On a terminal
    that is too narrow for a table, its metrics stand one below the other."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    own = [min(table, turned(table), key=width) if width(table) > room else table for table in run_tables(results)]
    return "\n".join(to_markdown(table) for table in [*own, *paper_tables([results])])
