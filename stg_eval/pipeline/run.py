"""The loop: what is missing -> generate -> score -> table. Resuming is the same code path as a first run."""

from __future__ import annotations

from collections.abc import Container, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stg_eval import executors
from stg_eval.executors import Executor
from stg_eval.executors.loading import Loaded, load_available
from stg_eval.executors.worker import IN_STORE, Generate, Item, Setup
from stg_eval.metrics import MetricCard, SetMetric
from stg_eval.pipeline import estimates, memory, pairs, score, totals
from stg_eval.pipeline.plan import Plan, counting
from stg_eval.pipeline.status import Status
from stg_eval.pipeline.work import Outcome, Work
from stg_eval.provenance import provenance
from stg_eval.storage import csv_text, record, results
from stg_eval.storage.record import AskedFor, Missing, Problem, RunRecord, read_record
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.storage.store import Store, clip_name
from stg_eval.storage.video import Reader
from stg_eval.suites import Reference, open_dataset
from stg_eval.types import Request, StgEvalError, to_json


def run(
    plan: Plan,
    *,
    store_path: Path,
    output: Path,
    device: str,
    executor: str = "local",
    engine: str = "ours",
    reader: Reader = "pyav",
    workers: int | None = None,
) -> Results:
    """Make and score every clip of the plan that is not in the store yet, and write the results to `output`.

    Clips that could not be made or read are named in `Results.run.missing`; the rest counts. Raises StgEvalError
    for what stops the whole run; whatever was finished by then stays in the store, and the same command resumes.
    """
    executors.check(executor)
    before = check_output(output, plan)
    every, unloaded = load_available((*plan.metrics, *plan.pairs), executors.driver_device(executor, device), engine)
    asked, plan = plan, plan.only(every)
    loaded: dict[str, Any] = {card.name: every[card.name] for card in plan.metrics}
    reference = _reference(plan)
    setup = _setup(plan, store_path, device, engine, reader, workers)
    with Store(store_path) as store, Status(output) as status:
        _check_memory(plan, store, executors.driver_device(executor, device))
        with executors.start(executor, setup, loaded) as does:
            outcome = fill(plan, store, loaded, does, status)
            wanted = {card.name: loaded[card.name] for card in plan.metrics if card.needs_reference}
            real = score.reference_features(reference, wanted, store, does) if reference else {}
        found = collect(plan, store, every, outcome, real, reader)
    cells = found.estimates + estimates.not_scored(unloaded, [variant.name for variant in plan.variants])
    columns = found.columns + tuple(estimates.missing_column(card) for card in asked.cards if card.name in unloaded)
    record = describe(asked, store_path, device, before).model_copy(
        update={
            "missing": found.missing,
            "problems": found.problems,
            "reader_of_new_scores": reader,
            "features": estimates.features_record(plan.metrics, loaded, reference),
        }
    )
    final = Results(output, record, (*columns, *totals.columns(plan.totals, columns)), cells, found.scores)
    return results.save(final)


class Collected(NamedTuple):
    """What the store holds of a plan."""

    columns: tuple[Column, ...]
    """Without those of totals."""
    estimates: tuple[Estimate, ...]
    scores: pd.DataFrame
    missing: tuple[Missing, ...]
    problems: tuple[Problem, ...]


def collect(
    plan: Plan,
    store: Store,
    every: Mapping[str, Any],
    outcome: Outcome,
    real: Mapping[str, np.ndarray],
    reader: Reader = "pyav",
) -> Collected:
    """Return tables and estimates of a plan that `fill` has filled; metrics of pairs are computed now.

    every: name -> loaded metric. real: extractor signature -> features float32 [M, D] of the real clips.
    """
    paired: dict[str, Any] = {card.name: every[card.name] for card in plan.pairs}
    there = store.present(list({r.key: None for requests in plan.requests.values() for r in requests}))
    table, without = _score_table(plan, store, every, there)
    partners = pairs.with_baseline(table, plan.baseline, store.path) if paired else []
    table, unlike = pairs.fill(table, partners, paired, store, reader)
    cards = (*plan.metrics, *plan.pairs)
    shared: dict[str, Any] = {
        "baseline": plan.baseline,
        "cluster": plan.suite.cluster,
        "published": {v.name: v.published for v in plan.variants},
        "by_case": plan.suite.keep_static,
    }
    cells = estimates.cells(table, cards, every, store, real, **shared)
    return Collected(
        estimates.columns(cards, every, cells),
        cells + totals.cells(table, plan.totals, **shared),
        table,
        _missing(plan, _lost(plan, there, outcome)),
        (*_problems(plan, outcome, without), *_unlike(table, unlike)),
    )


def run_shard(
    plan: Plan,
    index: int,
    count: int,
    *,
    store_path: Path,
    device: str,
    executor: str = "local",
    engine: str = "ours",
    reader: Reader = "pyav",
    workers: int | None = None,
) -> tuple[int, list[str]]:
    """Make and score share `index` of `count` of a plan, into a store of its own; results come when the stores are
    merged. Returns the number of its clips, and a line for each that could not be made, read or scored.

    Which clips belong to a share depends on the plan alone. Raises StgEvalError as `run` does.
    """
    if not 1 <= index <= count:
        raise StgEvalError(f"--shard {index}/{count}: the first number lies between 1 and the second")
    executors.check(executor)
    every, _ = load_available(plan.metrics, executors.driver_device(executor, device), engine)
    plan = plan.only(every)
    loaded: dict[str, Any] = dict(every)
    setup = _setup(plan, store_path, device, engine, reader, workers)
    with Store(store_path) as store, Status(None) as status, executors.start(executor, setup, loaded) as does:
        _check_memory(plan, store, executors.driver_device(executor, device))
        outcome = fill(plan, store, loaded, does, status, (index, count))
    lines = [f"{key[:12]}: {problem}" for key, problem in outcome.missing.items()]
    lines += [f"{p['key'][:12]}, {p['metric']}: {p['problem']}" for p in outcome.problems]
    return len(_batches(plan, index, count)), lines


def check_output(output: Path, plan: Plan) -> RunRecord | None:
    """Refuse before any work what would fail after it, and a folder that holds another run. Returns the record of an
    earlier one of this plan."""
    results.check_writable(output)
    if not (output / "table.json").is_file():
        return None
    try:
        previous = read_record((output / "run.json").read_bytes(), output)
    except (OSError, ValueError):  # this run writes it anew
        return None
    if (previous.suite, previous.model) != (plan.suite.name, plan.card.name):
        raise StgEvalError(
            f"{output} holds a run of {previous.suite} with {previous.model}; choose another folder with --output"
        )
    return previous


def describe(plan: Plan, store_path: Path, device: str, before: RunRecord | None = None) -> RunRecord:
    """Return everything that was asked for, and with what it was made; `before` is the record of an earlier run."""
    first = plan.requests[plan.baseline][0]
    return RunRecord(
        suite=plan.suite.name,
        title=plan.suite.title,
        model=plan.card.name,
        model_title=plan.card.title,
        weights=first.weights,
        metrics=tuple(card.name for card in plan.cards),
        variants=tuple(
            record.Variant(name=v.name, signature=str(v.guidance), published=v.published, source=v.source)
            for v in plan.variants
        ),
        baseline=plan.baseline,
        cluster=plan.suite.cluster,
        metric_clips=plan.suite.metric_clips,
        score_by_tag=plan.suite.score_by_tag,
        keep_static=plan.suite.keep_static,
        seeds=tuple(sorted({r.seed for r in plan.requests[plan.baseline]})),
        settings=plan.settings,
        request=AskedFor(**{k: v for k, v in to_json(first).items() if k not in ("case", "guidance", "seed")}),
        expected=sum(len(r) for r in plan.requests.values()),
        store=str(store_path.resolve()),
        provenance=provenance(device, before.provenance if before else None),
    )


def _setup(plan: Plan, store_path: Path, device: str, engine: str, reader: Reader, workers: int | None) -> Setup:
    names = tuple(card.name for card in plan.metrics)
    return Setup(store_path.resolve(), device, reader, plan.card, names, engine, workers)


def missing(plan: Plan, store: Store) -> dict[str, int]:
    """Map variant -> number of clips that are not in the store; requests for one clip count once."""
    keys = {name: {r.key for r in requests} for name, requests in plan.requests.items()}
    return {name: len(of_variant) - len(store.present(list(of_variant))) for name, of_variant in keys.items()}


def _check_memory(plan: Plan, store: Store, device: str) -> None:
    """Refuse what the GPU cannot hold, where there are clips to make; see `memory.check`."""
    if device.startswith("cuda") and any(missing(plan, store).values()):
        memory.check(plan, device)


def fill(
    plan: Plan, store: Store, loaded: Loaded, executor: Executor, status: Status, shard: tuple[int, int] = (1, 1)
) -> Outcome:
    """Make the clips that the store lacks, and score all there are."""
    items: dict[str, Item] = {}
    batches = _batches(plan, *shard)
    for variant in plan.variants:
        for r in plan.requests[variant.name]:
            if r.key in batches:
                items.setdefault(r.key, Item(r.key, IN_STORE, r.case))
    some = {card.name: keys for card in plan.metrics if (keys := _scored_in_part(plan, card)) is not None}
    work = Work(store, loaded, applies=lambda name, item: name not in some or item.key in some[name], batches=batches)
    return work.do(executor, _absent(store, batches), list(items.values()), status)


def _scored_in_part(plan: Plan, card: MetricCard) -> set[str] | None:
    """Return the keys of clips on which a metric is computed; None where it is on all of them, as most are."""
    scored = {variant.name: plan.scored(card, variant.name) for variant in plan.variants}
    if all(of_variant.all() for of_variant in scored.values()):
        return None
    return {r.key for name, wanted in scored.items() for r, yes in zip(plan.requests[name], wanted, strict=True) if yes}


def _batches(plan: Plan, index: int, count: int) -> dict[str, tuple[Request, ...]]:
    """Map key -> the batch in which its clip is made, for those of share `index` of `count`: every `count`-th batch of
    each variant, so what is compared pair by pair is made in one share."""
    found: dict[str, tuple[Request, ...]] = {}
    seen: set[str] = set()
    for variant in plan.variants:
        for i, batch in enumerate(plan.batches(variant.name)):
            # Two cases of a suite may ask for one clip: they differ in id and tags alone.
            new = tuple({r.key: r for r in batch if r.key not in seen}.values())
            seen.update(r.key for r in new)
            if i % count == index - 1:
                found |= {r.key: new for r in new}
    return found


def _absent(store: Store, batches: Mapping[str, tuple[Request, ...]]) -> list[Generate]:
    """Say what makes the clips that the store lacks. One that it once had comes back with its whole batch around it."""
    there = store.present(list(batches))
    recorded = store.recorded([key for key in batches if key not in there])
    tasks = []
    for batch in {id(batch): batch for batch in batches.values()}.values():
        absent = tuple(request for request in batch if request.key not in there)
        if any(request.key in recorded for request in absent):
            tasks.append(Generate(batch, frozenset(r.key for r in batch if r.key in there)))
        elif absent:
            tasks.append(Generate(absent))
    return tasks


def _reference(plan: Plan) -> Reference | None:
    if not any(card.needs_reference for card in plan.metrics):
        return None
    reference = open_dataset(plan.suite).reference()
    if reference is None:
        names = ", ".join(card.name for card in plan.metrics if card.needs_reference)
        raise StgEvalError(f"{names} compare with real clips, and suite {plan.suite.name!r} has none; drop them")
    return reference


def _score_table(plan: Plan, store: Store, loaded: Loaded, there: Set[str]) -> tuple[pd.DataFrame, dict[str, set[str]]]:
    """Results.scores: a row for each clip that was asked for, in plan order. And metric -> keys of clips that are there
    and lack what should be there of it."""
    parts = []
    without: dict[str, set[str]] = {}
    for variant in plan.variants:
        requests = plan.requests[variant.name]
        keys = [r.key for r in requests]
        tags = {words: csv_text.of_words(words) for words in {r.case.tags for r in requests}}
        part = pd.DataFrame(
            {
                "variant": _texts([variant.name] * len(keys)),
                "case": _texts([r.case.id for r in requests]),
                "prompt": _texts([r.case.wanted for r in requests]),
                "label": pd.array([r.case.label for r in requests], dtype="Int64"),
                "tags": _texts([tags[r.case.tags] for r in requests]),
                "seed": [r.seed for r in requests],
                "key": _texts(keys),
                "file": _texts([clip_name(key) if key in there else "" for key in keys]),
            }
        )
        for card in plan.metrics:
            wanted = plan.scored(card, variant.name)
            metric = loaded[card.name]
            known: Container[str]
            if isinstance(metric, SetMetric):
                part[card.name] = wanted
                known = store.with_features(keys, metric.extractor.signature)
            else:
                known = found = store.scores(keys, metric.signature)
                part[card.name] = [found.get(k, np.nan) if w else np.nan for k, w in zip(keys, wanted, strict=True)]
            lacking = {k for k, w in zip(keys, wanted, strict=True) if w and k in there and k not in known}
            without.setdefault(card.name, set()).update(lacking)
        parts.append(part)
    return counting(plan.suite).kept(pd.concat(parts, ignore_index=True)), without


def _texts(texts: list[str]) -> Any:
    """Return a column of text that shares its strings with the plan."""
    return pd.array(texts, dtype=pd.StringDtype("python", na_value=np.nan))  # type: ignore[call-overload]


def _unlike(table: pd.DataFrame, problems: Mapping[tuple[int, str], str]) -> list[Problem]:
    """Of pairs that have no value."""
    rows = list(table[["variant", "case", "seed", "key"]].itertuples(index=False, name=None))
    return [
        Problem(variant=rows[i][0], case=rows[i][1], seed=rows[i][2], key=rows[i][3], metric=metric, problem=problem)
        for (i, metric), problem in problems.items()
    ]


def _lost(plan: Plan, there: Set[str], outcome: Outcome) -> dict[str, str]:
    """Map key -> why, for every clip that was asked for and is not there: what was expected less what there is."""
    gone = "its file went from the store while the run went on; run the same command again"
    keys = {r.key: None for requests in plan.requests.values() for r in requests}
    return {key: outcome.missing.get(key, gone) for key in keys if key not in there or key in outcome.missing}


def _missing(plan: Plan, problems: dict[str, str]) -> tuple[Missing, ...]:
    return tuple(
        Missing(variant=variant.name, case=request.case.id, seed=request.seed, problem=problems[request.key])
        for variant in plan.variants
        for request in plan.requests[variant.name]
        if request.key in problems
    )


def _problems(plan: Plan, outcome: Outcome, without: Mapping[str, set[str]]) -> tuple[Problem, ...]:
    """Of clips that are there and lack a metric's value, whether someone said so or not."""
    found: dict[str, dict[str, str]] = {}
    for problem in outcome.problems:
        found.setdefault(problem["key"], {})[problem["metric"]] = problem["problem"]
    for metric, keys in without.items():
        for key in keys - outcome.missing.keys():
            found.setdefault(key, {}).setdefault(metric, "it was not recorded; run the same command again")
    return tuple(
        Problem(
            variant=variant.name,
            case=r.case.id,
            seed=r.seed,
            key=r.key,
            metric=card.name,
            problem=found[r.key][card.name],
        )
        for variant in plan.variants
        for r in plan.requests[variant.name]
        if r.key in found
        for card in plan.metrics
        if card.name in found[r.key]
    )
