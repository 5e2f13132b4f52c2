"""Recipes of the paper's tables and figures: which suites, models and guidance make our rows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from stg_eval import suites
from stg_eval.reports.paper import paper
from stg_eval.suites import Suite
from stg_eval.types import StgEvalError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a recipe, in the terms of `stg_eval.pipeline.plan.make_plan`."""

    suite: Suite
    """With the recipe's metrics and number of clips; its guidance and baseline are the recipe's too."""
    model: str

    @property
    def guidance(self) -> tuple[str, ...]:
        return self.suite.guidance


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a recipe, for the reader."""

    model: str
    """A model's name, or "all"."""
    name: str
    value: str
    stated: bool
    """Whether the paper states it; otherwise it is our choice."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A table or figure of the paper."""

    name: str
    title: str
    table: int | None
    """Number of the table, None for a figure."""
    runs: tuple[Run, ...]
    settings: tuple[Setting, ...]


def names() -> list[str]:
    """table1 ... table5, fig4."""
    return list(paper()["recipes"]["recipes"])


def recipe(name: str, *, fraction: float | None = None, limit: int | None = None) -> Recipe:
    """Return the recipe of a table or figure. A smoke run (`fraction`, `limit`: see `stg_eval.suites.samples`) compares
    with no more real clips than it makes itself.

    Raises StgEvalError with the nearest name for an unknown recipe.
    """
    entry = paper()["recipes"]["recipes"].get(name)
    if entry is None:
        near = get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"there is no recipe {name!r}{hint} (known: {', '.join(names())})")
    number = int(name.removeprefix("table")) if name.startswith("table") else None
    layout = paper()["tables"][number] if number else paper()["figures"][int(name.removeprefix("fig"))]
    runs = tuple(_run(one, layout, fraction, limit) for one in entry["runs"])
    models = dict.fromkeys(run.model for run in runs)
    settings = [s for model in ("all", *models) for s in _settings(model, paper()["recipes"]["settings"][model])]
    settings += _settings(name, entry)
    return Recipe(name=name, title=layout["title"], table=number, runs=runs, settings=tuple(settings))


def _run(entry: Mapping[str, Any], layout: Mapping[str, Any], fraction: float | None, limit: int | None) -> Run:
    suite = suites.load(entry["suite"])
    rows = [row["guidance"] for row in layout.get("rows", ()) if row["model"] == entry["model"]]
    guidance = tuple(dict.fromkeys(entry.get("guidance", rows)))
    metrics = tuple(entry.get("metrics") or (m for m in suite.metrics if m in layout["metrics"]))
    clips = entry.get("clips", suite.clips)
    made = min(limit or clips, max(1, round((fraction or 1) * clips)))
    counts = {m: min(n, clips) for m, n in suite.metric_clips.items() if m in metrics}
    suite = replace(
        suite,
        guidance=guidance,
        baseline=guidance[0],
        metrics=metrics,
        clips=clips,
        metric_clips=counts,
        reference_clips=suite.reference_clips and min(suite.reference_clips, made),
    )
    return Run(suite=suite, model=entry["model"])


def _settings(model: str, entry: Mapping[str, Any]) -> list[Setting]:
    return [
        Setting(model=model, name=name, value=str(value), stated=part == "paper")
        for part in ("paper", "ours")
        for name, value in entry.get(part, {}).items()
    ]
