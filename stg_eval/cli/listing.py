"""What there is: models, suites, metrics, guidance presets; printed for people, one line each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from stg_eval import generators, suites
from stg_eval.metrics import registry
from stg_eval.types import StgEvalError


def show(what: str, model: str) -> None:
    """Print one of LISTS. Raises StgEvalError for another word, with the nearest."""
    if what not in LISTS:
        near = get_close_matches(what, LISTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"cannot list {what!r}{hint} (there are: {', '.join(LISTS)})")
    heads, rows = LISTS[what](model)
    print_table(heads, rows)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns on stdout, wrapped to a terminal and unwrapped in a pipe."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 500, markup=False, highlight=False).print(table)


def _models(_: str) -> tuple[list[str], list[list[str]]]:
    cards = [model.card for model in generators.models()]
    rows = [
        [c.name, c.title, c.task, f"{c.num_frames} x {c.height} x {c.width}", f"{c.num_inference_steps}", c.weights]
        for c in cards
    ]
    return ["model", "", "task", "frames x height x width", "steps", "weights"], rows


def _suites(_: str) -> tuple[list[str], list[list[str]]]:
    loaded = [suites.load(name) for name in suites.names()]
    return ["suite", "", "metrics"], [[s.name, s.title, ", ".join(s.metrics)] for s in loaded]


def _metrics(_: str) -> tuple[list[str], list[list[str]]]:
    cards = [*registry.METRICS.values(), *registry.plug_ins().values()]
    better = {True: "higher", False: "lower", None: "neither"}
    rows = [
        [c.name, c.title, better[c.higher_is_better], c.kind, ", ".join(w.name for w in c.weights) or "-"]
        for c in cards
    ]
    return ["metric", "", "better", "kind", "weights"], rows


def _guidance(model: str) -> tuple[list[str], list[list[str]]]:
    found = generators.get(model)
    rows = []
    for name, preset in found.card.presets.items():
        published = ", ".join(f"{metric} {value:g}" for metric, value in preset.published.items())
        passes = found.cost(preset.guidance)
        told = f"{published} ({preset.source})" if published else preset.source or "-"
        rows.append([name, str(preset.guidance), f"{passes:.2f}", told])
    return [f"{model} preset", "signature", "passes a step", "published"], rows


def _weights(_: str) -> tuple[list[str], list[list[str]]]:
    from stg_eval import weights
    from stg_eval.pipeline import checkpoints

    rows = [
        [w.name, weights.size(w), w.licence, weights.digest(w), w.needed_by, str(weights.where(w) or "-")]
        for w in checkpoints.catalogue().values()
    ]
    return ["weights", "size", "licence", "digest", "needed by", "here"], rows


LISTS: dict[str, Callable[[str], tuple[list[str], list[list[str]]]]] = {
    "models": _models,
    "suites": _suites,
    "metrics": _metrics,
    "guidance": _guidance,
    "weights": _weights,
}
