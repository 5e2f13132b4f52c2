"""Names a run as a reader calls it, and says in plain lines what it lacks."""

from __future__ import annotations

from collections.abc import Sequence

from stg_eval.storage.results import Column, Results

LISTED = 5
"""How many missing clips or scores are named before "and N more"."""


def run_title(results: Results) -> str:
    """Say in one line what was run."""
    run = results.run
    seeds = [f"seed{'s' if len(run.seeds) > 1 else ''} {ranges(run.seeds)}"] if run.seeds else []
    return ", ".join([run.title, run.model_title or run.model, *seeds])


def missing(results: Results) -> list[str]:
    """Say in plain lines what is not there: clips that were asked for, scores that are not numbers, too few
    variants."""
    lines = []
    absent = results.run.missing
    if absent:
        named = [f"{m.variant}, case {m.case}, seed {m.seed} ({m.problem})" for m in absent[:LISTED]]
        lines.append(f"Missing: {len(absent)} of {results.run.expected} clips. {listed(named, len(absent))}")
    for column in results.columns:
        if column.kind == "clip" and column.name in results.scores:
            lines += _without_score(results, column)
    if notes := results.run.notes:
        lines.append(f"To know: {listed(notes[:LISTED], len(notes))}")
    if len(results.variants) == 1:
        lines.append("One variant only: nothing is compared.")
    return lines


def _without_score(results: Results, column: Column) -> list[str]:
    """Name the clips that are there and lack a score of this metric; of a metric that counts static clips only, say how
    many it counts."""
    absent = results.run.absent
    problems = {p.key: p.problem for p in results.run.problems if p.metric == column.name}
    keep = results.run.keep_static
    scores = results.scores[results.wanted(column.name)]
    scored = scores[column.name].notna()
    if column.name in keep:
        counted = f"{scored.sum():,} of {len(scores):,} clips"
        return [f"{column.title} counts the first {keep[column.name]} static clips of each case: {counted}."]
    named = [
        f"{v}, case {case}, seed {seed} ({problems.get(key, 'NaN')})"
        for v, case, seed, key in scores[~scored][["variant", "case", "seed", "key"]].itertuples(index=False)
        if (v, case, seed) not in absent
    ]
    if not named:
        return []
    return [f"No {column.title} score: {len(named)} of {len(scores)} clips. {listed(named[:LISTED], len(named))}"]


def ranges(numbers: Sequence[int]) -> str:
    """ "0-4, 7" for 0, 1, 2, 3, 4, 7."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def listed(named: Sequence[str], count: int) -> str:
    return "; ".join(named) + (f"; and {count - len(named)} more." if count > len(named) else ".")
