"""How a reader calls a run and its variants, and what a run lacks, in plain lines."""

from __future__ import annotations

from stg_eval.storage.results import Column, Results

LISTED = 5
"""How many missing clips or scores are named before "and N more"."""


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
