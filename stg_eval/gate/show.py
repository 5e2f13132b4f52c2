"""Turns a comparison into tables, notes, checks and an exit code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stg_eval.gate.outcome import Check, Outcome, Table
from stg_eval.gate.verdicts import Comparison, Verdict


def outcome(comparison: Comparison) -> Outcome:
    """Return the tables, notes and checks of a comparison; exit code 1 if a gated metric got worse."""
    bad, verdicts = comparison.regressions, comparison.verdicts
    unsure = [v for v in verdicts if v.word == "cannot tell"]
    if bad:
        headline = "regression: " + ", ".join(dict.fromkeys(f"{v.column.title} ({v.variant})" for v in bad))
    else:
        headline = f"pass: nothing got worse in {len(verdicts)} comparisons"
        headline += f", {len(unsure)} of them cannot be told at this n" if unsure else ""
    tables = [_verdict_table(verdicts)]
    if comparison.worst:
        tables.append(_worst_table(comparison))
    notes = [f"Allowed to differ: {line}" for line in comparison.allowed]
    if comparison.changes:
        notes.append("Changed: " + "; ".join(comparison.changes))
    return Outcome(
        exit_code=1 if bad else 0,
        headline=headline,
        tables=tuple(tables),
        notes=tuple(notes),
        checks=tuple(_check(v) for v in verdicts),
        data={
            "baseline": str(comparison.baseline),
            "run": str(comparison.run),
            "verdicts": [asdict(v) | {"column": v.column.signature} for v in verdicts],
            "worst": [asdict(w) for w in comparison.worst],
            "allowed": list(comparison.allowed),
            "changes": list(comparison.changes),
        },
    )


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    header = ("Variant", "Metric", "Baseline", "Run", "Difference [95 %]", "Matters from", "p (Holm)", "n", "Verdict")
    rows = []
    for v in verdicts:
        number = f"{{:.{v.column.digits}f}}".format
        signed = f"{{:+.{v.column.digits}f}}".format
        scaled = {
            key: getattr(v, key) * v.column.scale
            for key in ("baseline", "value", "difference", "low", "high", "margin")
        }
        arrow = {True: " ↑", False: " ↓", None: ""}[v.column.higher_is_better]
        rows.append(
            (
                v.variant,
                f"{v.column.title}{arrow}",
                _or_dash(scaled["baseline"], number),
                _or_dash(scaled["value"], number),
                _or_dash(scaled["difference"], signed)
                + ("" if math.isnan(v.low) else f" [{signed(scaled['low'])}, {signed(scaled['high'])}]"),
                _or_dash(scaled["margin"], f"{{:.{v.column.digits + 1}f}}".format),
                _or_dash(v.p_holm, "{:.3g}".format),
                str(v.n),
                _word(v),
            )
        )
    return Table(title="Verdicts", header=header, rows=tuple(rows))


def _worst_table(comparison: Comparison) -> Table:
    titles = {v.metric: v.column for v in comparison.verdicts}
    rows = []
    for w in comparison.worst:
        column = titles[w.metric]
        number = f"{{:.{column.digits}f}}".format
        before, after = (_or_dash(value * column.scale, number) for value in (w.before, w.after))
        seed = str(w.seed) if w.seed == w.seed_run else f"{w.seed}, {w.seed_run}"
        prompt = w.prompt if len(w.prompt) <= 80 else w.prompt[:79] + "…"
        if column.kind == "pair":
            change = f"moved {w.change:.3g} times the limit"
        else:
            change = f"features moved {w.change:.3g}" if math.isnan(w.before) else f"{before} -> {after}"
        rows.append((w.variant, column.title, w.case, seed, change, prompt))
    return Table(
        title="Pairs that moved most",
        header=("Variant", "Metric", "Case", "Seed", "Before -> after", "Prompt"),
        rows=tuple(rows),
    )


def _check(v: Verdict) -> Check:
    failing = "fail" if v.gated else "skip"
    states: dict[str, Any] = {"worse": failing, "changed": failing, "cannot tell": "skip"}
    line = (
        f"{_word(v)}: {v.baseline:.6g} -> {v.value:.6g}, difference {v.difference:+.4g} [{v.low:+.4g}, {v.high:+.4g}], "
        f"matters from {v.margin:.3g}, p {v.p_holm:.3g} (Holm), n {v.n}"
    )
    return Check(group=v.variant, name=v.metric, state=states.get(v.word, "pass"), line=line)


def _word(v: Verdict) -> str:
    extra = "" if v.gated else " (not gated)"
    if v.word != "cannot tell":
        return v.word + extra
    if v.note:
        return f"cannot tell: {v.note}{extra}"
    about = f"about {float(f'{v.n_to_tell:.2g}'):,.0f} would" if math.isfinite(v.n_to_tell) else "no n would"
    return f"cannot tell at this n ({about}){extra}"


def _or_dash(value: float, show: Any) -> str:
    return "-" if math.isnan(value) else str(show(value))
