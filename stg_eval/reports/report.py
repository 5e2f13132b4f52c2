"""One folder with everything a paper or a reader needs of one or more runs. Same input, same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stg_eval.reports import render
from stg_eval.reports.gallery import write_page
from stg_eval.reports.paper import paper_tables
from stg_eval.reports.tables import Table, run_name, run_tables
from stg_eval.results import Results

SUFFIXES = {".md": render.to_markdown, ".tex": render.to_latex, ".csv": render.to_csv, ".html": render.to_html}


def write_report(results: Sequence[Results], store_root: Path, out: Path) -> Path:
    """Write tables (Markdown, LaTeX, CSV, HTML), figures (PDF, PNG, SVG) and the gallery of `results` to folder `out`.

    `store_root` holds the clips that `Results.scores["file"]` names. Returns the path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for one in results:
        for table in run_tables(one):
            names.append(_write_table(out / "tables", f"{_slug(run_name(one))}-{table.name}", table))
    names += [_write_table(out / "tables", table.name, table) for table in paper_tables(results)]
    (out / "tables" / "tables.tex").write_text(render.latex_document(names), encoding="utf-8")
    return write_page(results, store_root, out / "index.html")


def _write_table(folder: Path, name: str, table: Table) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, write in SUFFIXES.items():
        (folder / f"{name}{suffix}").write_text(write(table), encoding="utf-8")
    return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
