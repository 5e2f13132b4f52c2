"""Pairs the clips of two runs, and finds what stands against comparing them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import pandas as pd

from stg_eval.gate.snapshot import Snapshot
from stg_eval.types import StgEvalError

FIELDS = {
    "suite": "the suite",
    "variants": "the names of the variants; allowed: those in both are compared",
    "cases": "what was shown; allowed: the cases in both are compared",
    "seeds": "the seeds; allowed: the k-th clip of a case is paired with the k-th",
    "clips": "clips that one side lacks; allowed: the pairs that exist are compared",
    "metrics": "the metrics and their signatures; allowed: metrics with the same name are compared",
    "reference": "the real clips of FVD and its like",
    "encoding": "how clips are stored",
    "height": "frame height",
    "width": "frame width",
    "num_frames": "frames a clip",
    "fps": "frames a second",
}
"""What must be equal, in order of precedence. `--allow FIELD` lets a difference pass."""

EXPORT = ("encoding", "height", "width", "num_frames", "fps")


class Mismatch(NamedTuple):
    """Something that stands against a comparison."""

    field: str
    line: str


class NotComparable(StgEvalError):
    """Two runs that differ in more than what is tested."""

    exit_code = 3

    def __init__(self, mismatches: Collection[Mismatch]) -> None:
        lines = "".join(f"\n  {m.field}: {m.line}" for m in mismatches)
        fields = dict.fromkeys(m.field for m in mismatches if m.field in FIELDS)
        accept = f", or accept this with {' '.join(f'--allow {f}' for f in fields)}" if fields else ""
        super().__init__(f"not comparable:{lines}\nMake both sides alike{accept}")
        self.mismatches = tuple(mismatches)


def mismatches(baseline: Snapshot, run: Snapshot) -> list[Mismatch]:
    """List everything that stands against comparing the two; empty if nothing does."""
    found: list[Mismatch] = []

    def check(field: str, before: Any, after: Any) -> None:
        if before != after:
            found.append(Mismatch(field, f"{before} in the baseline, {after} in the run"))

    check("suite", baseline.run.suite, run.run.suite)
    found += _sides("variants", set(baseline.scores["variant"]), set(run.scores["variant"]))
    found += _cases(baseline.scores, run.scores)
    seeds = [_seeds(side.scores) for side in (baseline, run)]
    if seeds[0] != seeds[1]:
        check("seeds", *(_spans(s) for s in seeds))
    else:
        shared = [_shared(a.scores, b.scores) for a, b in ((baseline, run), (run, baseline))]
        found += _sides("clips", *(set(_keys(rows)) for rows in shared))
    found += _metrics(baseline, run)
    for field in EXPORT:
        check(field, *(getattr(side.run.request, field, None) for side in (baseline, run)))
    return found


def changes(baseline: Snapshot, run: Snapshot) -> list[str]:
    """Say what else differs, which may be the very thing under test: weights, steps, precision, libraries, hardware."""
    before, after = _described(baseline), _described(run)
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def pairs(baseline: Snapshot, run: Snapshot) -> pd.DataFrame:
    """Return one row a pair: variant, case, seed, seed_run, prompt, cluster, and the row numbers `before` and `after`.

    Paired by (variant, case, seed); where the two runs' seeds differ, by the order of seeds in a case. Raises
    StgEvalError where nothing is left.
    """
    sides = []
    for side, name in ((baseline, "before"), (run, "after")):
        rows = side.scores[["variant", "case", "seed"]].copy()
        if rows.duplicated().any():
            raise StgEvalError(
                f"{side.path} holds a clip twice: {tuple(rows[rows.duplicated()].iloc[0])}; run it again"
            )
        rows["order"] = rows.groupby(["variant", "case"])["seed"].rank().astype(int)
        rows[name] = range(len(rows))
        sides.append(rows)
    same_seeds = _seeds(baseline.scores) == _seeds(run.scores)
    on = ["variant", "case", "seed" if same_seeds else "order"]
    joined = sides[0].merge(sides[1].rename(columns={} if same_seeds else {"seed": "seed_run"}), on=on)
    if joined.empty:
        raise StgEvalError("no clip of the run has a partner in the baseline; nothing can be compared")
    if same_seeds:
        joined["seed_run"] = joined["seed"]
    joined["prompt"] = run.scores["prompt"].fillna("").to_numpy()[joined["after"]]
    by_case = run.run.cluster == "case"
    joined["cluster"] = joined["case"] if by_case else joined["case"] + "/" + joined["seed"].astype(str)
    return joined


def _sides(field: str, before: set, after: set) -> Iterable[Mismatch]:
    for only, where in ((before - after, "run"), (after - before, "baseline")):
        if only:
            yield Mismatch(field, f"{_list(only)} {'is' if len(only) == 1 else 'are'} missing in the {where}")


def _cases(before: pd.DataFrame, after: pd.DataFrame) -> Iterable[Mismatch]:
    yield from _sides("cases", set(before["case"]), set(after["case"]))
    shown = [
        rows.drop_duplicates("case").set_index("case")[["prompt", "label"]].astype(object) for rows in (before, after)
    ]
    both = shown[0].index.intersection(shown[1].index)
    first, second = (s.loc[both].where(s.loc[both].notna(), None) for s in shown)
    differ = [case for case in both if list(first.loc[case]) != list(second.loc[case])]
    if differ:
        yield Mismatch("cases", f"{_list(differ)} had another prompt or label in the baseline")


def _metrics(baseline: Snapshot, run: Snapshot) -> Iterable[Mismatch]:
    before, after = ({c.name: c.unsized for c in side.columns} for side in (baseline, run))
    yield from _sides("metrics", set(before), set(after))
    for name in before.keys() & after.keys():
        if before[name] != after[name]:
            yield Mismatch("metrics", f"{name} was {before[name]} in the baseline and is {after[name]} in the run")
    real = [side.run.features for side in (baseline, run)]
    for name in real[0].keys() & real[1].keys():
        if real[0][name].reference != real[1][name].reference:
            yield Mismatch("reference", f"{name} was compared with other real clips in the baseline")


def _seeds(rows: pd.DataFrame) -> list[int]:
    return sorted(int(seed) for seed in rows["seed"].unique())


def _shared(rows: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose variant and case the other side knows: what else it lacks is a missing clip."""
    return rows[rows["variant"].isin(other["variant"]) & rows["case"].isin(other["case"])]


def _keys(rows: pd.DataFrame) -> Iterable[str]:
    return (f"{r.variant}/{r.case}/seed {r.seed}" for r in rows.itertuples())


def _spans(numbers: list[int]) -> str:
    """Return sorted numbers as spans: 0-3, 8."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    spans = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(spans[:5]) + (", ..." if len(spans) > 5 else "")


def _list(items: Collection[Any], most: int = 3) -> str:
    named = ", ".join(repr(item) for item in sorted(items)[:most])
    return named + (f" and {len(items) - most} more" if len(items) > most else "")


def _described(side: Snapshot) -> dict[str, Any]:
    record, request = side.run, side.run.request
    out: dict[str, Any] = {"model": record.model}
    if request:
        out |= request.model_dump(exclude={*EXPORT, "model", "settings"}) | dict(request.settings)
    out |= {f"guidance {variant.name}": variant.signature for variant in record.variants}
    out |= record.provenance.model_dump(exclude={"packages"})
    return out | dict(record.provenance.packages)
