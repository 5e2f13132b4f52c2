"""Writes one folder with everything a paper or a reader needs of one or more runs. Same input, same bytes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from stg_eval.reports import figures
from stg_eval.reports.gallery import page_of, store_of
from stg_eval.reports.methods import Cite, methods_files, nothing
from stg_eval.reports.overview import Margin, boards, write_overview
from stg_eval.reports.overview.board import leaderboard
from stg_eval.reports.paper import paper_tables
from stg_eval.reports.table import Table
from stg_eval.reports.tables import difference_table, run_tables
from stg_eval.reports.writers import WRITERS
from stg_eval.reports.writers.latex import latex_document
from stg_eval.storage import atomic, lock
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(results: Sequence[Results], store_root: Path, out: Path, cite: Cite = nothing) -> Path:
    """Write tables (Markdown, LaTeX, CSV, HTML), figures (PDF, PNG, SVG) and the gallery of `results` to folder `out`.

    `store_root` holds the clips of runs whose own store is gone. A run with ratings.csv or preferences.csv beside its
    table.json, as `stg-eval rate export` writes them, gets their figure and table too. A figure that lacks its data is
    left out, with a line on stderr. Returns the path of the page.

    The folder is renewed whole or not at all; one process at a time writes to it, another waits. Raises StgEvalError
    where the disk refuses.
    """
    with _renewed(out) as new, ThreadPoolExecutor(1) as beside:
        named = list(zip(_names(results), results, strict=True))
        # Drawing is Python's work, and the page's clips are decoded by libav meanwhile.
        drawn = beside.submit(_write_figures, named, store_root, new / "figures")
        atomic.write(new / "index.html", page_of(results, store_root, out))
        _write_tables(named, new / "tables", cite)
        drawn.result()
    return out / "index.html"


def write_overview_report(
    runs: Sequence[Results],
    store_root: Path,
    out: Path,
    margin: Margin,
    left_out: Sequence[str] = (),
    cite: Cite = nothing,
) -> Path:
    """Write one page over many runs to folder `out`: see `stg_eval.reports.overview`. Beside it lie its tables
    (leaderboards, and the paper's where the runs are of its protocol) and the clips and scores that it reads.

    `store_root`, errors and what is returned are those of `write_report`; `margin` and `left_out` those of
    `write_overview`.
    """
    found = boards(runs)
    with _renewed(out) as new:
        write_overview(runs, found, store_root, out, new, margin, left_out)
        names = ["leaderboard"] if len(found) == 1 else [f"leaderboard-{i + 1}" for i in range(len(found))]
        tables = [leaderboard(board, name) for board, name in zip(found, names, strict=True)]
        latest = dict.fromkeys(board.entries[i].place for board in found for i in board.latest)
        _write(tables + paper_tables(runs), new / "tables", methods_files([runs[i] for i in latest], cite))
    return out / "index.html"


@contextmanager
def _renewed(out: Path) -> Iterator[Path]:
    """Give the folder of a new report, as `atomic.renewing` does, to one process at a time."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with lock.held(out / ".lock", "give another --output", wait=True), atomic.renewing(out) as new:
            atomic.sweep(out / "clips")
            yield new
    except OSError as error:
        raise StgEvalError(f"cannot write the report to {out} ({error.strerror}); the one before stays") from error


def _write_tables(named: Sequence[tuple[str, Results]], folder: Path, cite: Cite) -> None:
    tables = [replace(table, name=f"{name}-{table.name}") for name, one in named for table in run_tables(one)]
    runs = [one for _, one in named]
    _write(tables + paper_tables(runs), folder, methods_files(runs, cite))


def _write(tables: Sequence[Table], folder: Path, methods: Mapping[str, str]) -> None:
    """Write tables in every format, the methods text, and a LaTeX document of all of it."""
    for name, text in methods.items():
        atomic.write(folder / name, text)
    for table in tables:
        for suffix, write in WRITERS.items():
            atomic.write(folder / f"{table.name}{suffix}", write(table))
    inputs = [*(table.name for table in tables), "methods"]
    atomic.write(folder / "tables.tex", latex_document(inputs, "references" if methods["references.bib"] else ""))


def _write_figures(named: Sequence[tuple[str, Results]], store_root: Path, folder: Path) -> None:
    for name, one in named:
        for kind, draw in _figures(one, store_of(one, store_root)):
            try:
                figures.save(draw(), folder / f"{name}-{kind}")
            except StgEvalError as error:
                print(f"no figure {name}-{kind}: {error}", file=sys.stderr)


def _figures(results: Results, store: Path) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the figures that this run should have, not drawn yet: drawing raises StgEvalError where values are
    missing."""
    yield "scores", partial(figures.panels, results, "value")
    if difference_table(results):
        yield "differences", partial(figures.panels, results, "difference")
    yield from _sweep_figures(results)
    for case, seed in _first_pairs(results):
        clips = figures.clips_of(results, store, case, seed)
        if clips:
            yield f"strip-{_slug(case)}-{seed}", partial(figures.strip, clips)
    if (results.path / "ratings.csv").is_file():
        yield "ratings", lambda: figures.ratings(figures.read_ratings(results.path / "ratings.csv"))
    if (results.path / "preferences.csv").is_file():
        yield "preferences", lambda: figures.preferences(figures.read_ratings(results.path / "preferences.csv"))


def _sweep_figures(results: Results) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Fig. 4 where several scales were run with FVD and a clip metric; maps where several layers were."""
    guidance = [g for v in results.run.variants if (g := figures.guidance_of(v))]
    settings = {(g.layers, g.spatial_scale, g.temporal_scale, g.joint_scale) for g in guidance if g.method}
    fvd = next((c.name for c in results.columns if c.name.startswith("fvd")), None)
    others = [c.name for c in results.columns if c.kind == "clip" and c.higher_is_better]
    across = "imaging_quality" if "imaging_quality" in others else next(iter(others), None)
    scales = {g.cfg_scale for g in guidance if not g.method}
    if fvd and across and (len(settings) > 1 or len(scales) > 1):
        yield "scales", partial(figures.trade_off, [results], across, fvd)
    if len({layers for layers, *_ in settings}) > 1:
        for column in results.columns:
            yield f"layers-{_slug(column.name)}", partial(figures.heat_map, results, column.name)


def _first_pairs(results: Results, number: int = 1) -> list[tuple[str, int]]:
    """Take the first pair of the run whose clips could all be made and read: nobody chose it by its looks."""
    absent = {(m.case, m.seed) for m in results.run.missing}
    pairs = results.scores[["case", "seed"]].drop_duplicates().itertuples(index=False)
    whole = [(str(case), int(seed)) for case, seed in pairs if (str(case), seed) not in absent]
    return whole[:number]


def _names(results: Sequence[Results]) -> list[str]:
    """Give each run a file name, all different."""
    names: list[str] = []
    for slug in (_slug(one.path.name) for one in results):
        numbered = chain([slug], (f"{slug}-{i}" for i in count(2)))
        names.append(next(name for name in numbered if name not in names))
    return names


def _slug(text: str) -> str:
    """At most 100 characters: names of runs and cases may fill a file name alone."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:100].strip("-") or "run"
