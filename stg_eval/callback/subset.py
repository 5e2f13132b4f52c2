"""The pairs of an evaluation: a plan whose order is drawn once, so that any number from its front is a fair sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from stg_eval.gate.snapshot import Snapshot
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.suites import Suite
from stg_eval.types import JSONValue, StgEvalError


def plan_of(
    suite: Suite, model: str, guidance: Sequence[str], metrics: Sequence[str], settings: Mapping[str, JSONValue]
) -> Plan:
    """Return a plan of the suite's clips, one by one, in the order of a digest of case and seed. Without `metrics`, the
    suite's that score a clip.

    Raises StgEvalError for a metric that is of sets or of pairs: a few clips say nothing there.
    """
    plan = make_plan(suite, model, guidance=guidance, metric_names=metrics, settings=settings, allow_few=True)
    cards = tuple(card for card in plan.metrics if card.kind == "clip")
    if others := [card.name for card in plan.cards if card not in cards and card.name in metrics]:
        raise StgEvalError(f"{', '.join(others)} cannot be told from the few clips of an evaluation; leave them out")
    if not cards:
        raise StgEvalError(f"suite {suite.name!r} has no metric that scores a clip; name one in metrics")

    def place(index: int) -> str:
        request = plan.requests[plan.baseline][index]
        return sha256(f"{request.case.id}/{request.seed}".encode()).hexdigest()

    order = sorted(range(len(plan.requests[plan.baseline])), key=place)
    requests = {name: tuple(made[i] for i in order) for name, made in plan.requests.items()}
    return replace(plan, metrics=cards, pairs=(), totals=(), requests=requests, batch_size=1)


def of_weights(plan: Plan, weights: str) -> Plan:
    """Return the plan with requests of other weights."""
    requests = {name: tuple(replace(r, weights=weights) for r in made) for name, made in plan.requests.items()}
    return replace(plan, requests=requests)


def part(plan: Plan, start: int, stop: int) -> Plan:
    """Return pairs `start` to `stop` of a plan."""
    return replace(plan, requests={name: made[start:stop] for name, made in plan.requests.items()})


def common(one: Snapshot, other: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Return the pairs that two evaluations share: the slower one made fewer."""
    columns = ["variant", "case", "seed"]
    both = one.scores[columns].merge(other.scores[columns])

    def cut(side: Snapshot) -> Snapshot:
        return replace(side, scores=side.scores.merge(both, on=columns))

    return cut(one), cut(other)
