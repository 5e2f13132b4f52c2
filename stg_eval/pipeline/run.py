"""The loop: what is missing -> generate -> score -> table. Resuming is the same code path as a first run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stg_eval.executors import local
from stg_eval.pipeline import estimates, score
from stg_eval.pipeline.plan import Plan, counting
from stg_eval.pipeline.score import Item, Loaded
from stg_eval.progress import progress
from stg_eval.provenance import provenance
from stg_eval.storage import record, results
from stg_eval.storage.record import AskedFor, Missing, Problem, RunRecord
from stg_eval.storage.results import Results
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader, write_video
from stg_eval.suites import Reference, open_dataset
from stg_eval.types import Clip, Request, StgEvalError, to_json

Executor = Callable[..., Iterable[tuple[Sequence[Request], Sequence[np.ndarray | StgEvalError], float]]]
EXECUTORS: dict[str, Executor] = {"local": local.generate}


def run(
    plan: Plan,
    *,
    store_path: Path,
    output: Path,
    device: str,
    executor: str = "local",
    engine: str = "ours",
    reader: Reader = "pyav",
) -> Results:
    """Make and score every clip of the plan that is not in the store yet, and write the results to `output`.

    Clips that could not be made or read are named in `Results.run.missing`; the rest counts. Raises StgEvalError
    for what stops the whole run; whatever was finished by then stays in the store, and the same command resumes.
    """
    if executor not in EXECUTORS:
        raise StgEvalError(f"unknown executor {executor!r} (known: {', '.join(EXECUTORS)})")
    check_output(output, plan)
    loaded = score.load_metrics(plan.metrics, device, engine)
    reference = _reference(plan)
    with Store(store_path) as store:
        problems = _generate(plan, store, EXECUTORS[executor], device)
        outcome = _score(plan, store, loaded, reader)
        wanted = {card.name: loaded[card.name] for card in plan.metrics if card.needs_reference}
        real = score.reference_features(reference, wanted, store, reader) if reference else {}
        table = _score_table(plan, store, loaded)
        cells = estimates.cells(
            table,
            plan.metrics,
            loaded,
            store,
            real,
            baseline=plan.baseline,
            cluster=plan.suite.cluster,
            published={v.name: v.published for v in plan.variants},
            by_case=plan.suite.keep_static,
        )
    record = describe(plan, store_path, device).model_copy(
        update={
            "missing": _missing(plan, problems | outcome.unreadable),
            "problems": _problems(plan, outcome),
            "reader_of_new_scores": reader,
            "features": estimates.features_record(plan.metrics, loaded, reference),
        }
    )
    final = Results(output, record, estimates.columns(plan.metrics, loaded, cells), cells, table)
    results.save(final)
    return final


def check_output(output: Path, plan: Plan) -> None:
    """Refuse before any work what would fail after it, and a folder that holds another run."""
    results.check_writable(output)
    if not (output / "table.json").is_file():
        return
    try:
        previous = results.load(output).run
    except results.DamagedResults:  # this run writes it anew
        return
    if (previous.suite, previous.model) != (plan.suite.name, plan.card.name):
        raise StgEvalError(
            f"{output} holds a run of {previous.suite} with {previous.model}; choose another folder with --output"
        )


def missing(plan: Plan, store: Store) -> dict[str, list[Request]]:
    """Variant -> requests whose clip is not in the store; requests for one clip count once."""
    return {
        v.name: list({r.key: r for r in plan.requests[v.name] if store.clip(r.key) is None}.values())
        for v in plan.variants
    }


def describe(plan: Plan, store_path: Path, device: str) -> RunRecord:
    """Everything that was asked for, and with what it was made."""
    first = plan.requests[plan.baseline][0]
    return RunRecord(
        suite=plan.suite.name,
        title=plan.suite.title,
        model=plan.card.name,
        model_title=plan.card.title,
        weights=first.weights,
        metrics=tuple(m.name for m in plan.metrics),
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
        provenance=provenance(device),
    )


def _generate(plan: Plan, store: Store, execute: Executor, device: str) -> dict[str, str]:
    """Fill the store; returns key -> problem for clips that the model could not make."""
    todo, seen = [], set[str]()
    for variant in plan.variants:
        for batch in plan.batches(variant.name):
            # Two cases of a suite may ask for one clip: they differ in id and tags alone.
            absent = {r.key: r for r in batch if r.key not in seen and store.clip(r.key) is None}
            seen |= absent.keys()
            if absent:
                todo.append(tuple(absent.values()))
    problems: dict[str, str] = {}
    with progress("Generating", sum(map(len, todo))) as advance:
        for requests, frames, seconds in execute(todo, card=plan.card, device=device):
            _keep(store, requests, frames, seconds, problems)
            advance(len(requests))
    return problems


def _keep(
    store: Store,
    requests: Sequence[Request],
    frames: Sequence[np.ndarray | StgEvalError],
    seconds: float,
    problems: dict[str, str],
) -> None:
    clips: list[tuple[Request, Clip]] = []
    for request, clip in zip(requests, frames, strict=True):
        if isinstance(clip, StgEvalError):
            problems[request.key] = str(clip)
            continue
        file = store.clip_file(request)
        write_video(file, clip, request.fps, request.encoding)
        clips.append((request, _clip(store, request, file, clip.shape, seconds / len(requests))))
    store.add_clips(clips)


def _clip(store: Store, request: Request, file: Path, shape: tuple[int, ...], seconds: float) -> Clip:
    return Clip(
        key=request.key,
        file=str(file.relative_to(store.path)),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        num_frames=shape[0],
        height=shape[1],
        width=shape[2],
        fps=request.fps,
        encoding=request.encoding,
        seconds=seconds,
    )


def _score(plan: Plan, store: Store, loaded: Loaded, reader: Reader) -> score.Outcome:
    """Score all clips there are, variant by variant."""
    wanted: dict[str, set[str]] = {}
    items: dict[str, Item] = {}
    for variant in plan.variants:
        requests = plan.requests[variant.name]
        for card in plan.metrics:
            scored = plan.scored(card, variant.name)
            wanted.setdefault(card.name, set()).update(r.key for r, yes in zip(requests, scored, strict=True) if yes)
        items |= {r.key: Item(r.key, store.clip_file(r), r.case) for r in requests if store.clip(r.key)}
    return score.score_items(
        list(items.values()), loaded, store, applies=lambda name, item: item.key in wanted[name], reader=reader
    )


def _reference(plan: Plan) -> Reference | None:
    if not any(card.needs_reference for card in plan.metrics):
        return None
    reference = open_dataset(plan.suite).reference()
    if reference is None:
        names = ", ".join(card.name for card in plan.metrics if card.needs_reference)
        raise StgEvalError(f"{names} compare with real clips, and suite {plan.suite.name!r} has none; drop them")
    return reference


def _score_table(plan: Plan, store: Store, loaded: Loaded) -> pd.DataFrame:
    """Results.scores: a row for each clip that was asked for, in plan order."""
    parts = []
    for variant in plan.variants:
        requests = plan.requests[variant.name]
        keys = [r.key for r in requests]
        part = pd.DataFrame(
            {
                "variant": variant.name,
                "case": [r.case.id for r in requests],
                "prompt": [r.case.prompt for r in requests],
                "label": pd.array([r.case.label for r in requests], dtype="Int64"),
                "tags": [" ".join(r.case.tags) for r in requests],
                "seed": [r.seed for r in requests],
                "key": keys,
                "file": [clip.file if (clip := store.clip(key)) else "" for key in keys],
            }
        )
        for card in plan.metrics:
            wanted = plan.scored(card, variant.name)
            if card.kind == "set":
                part[card.name] = wanted
            else:
                found = store.scores(keys, loaded[card.name].signature)
                part[card.name] = [found.get(k, np.nan) if w else np.nan for k, w in zip(keys, wanted, strict=True)]
        parts.append(part)
    return counting(plan.suite).kept(pd.concat(parts, ignore_index=True))


def _missing(plan: Plan, problems: dict[str, str]) -> tuple[Missing, ...]:
    return tuple(
        Missing(variant=variant.name, case=request.case.id, seed=request.seed, problem=problems[request.key])
        for variant in plan.variants
        for request in plan.requests[variant.name]
        if request.key in problems
    )


def _problems(plan: Plan, outcome: score.Outcome) -> tuple[Problem, ...]:
    found: dict[str, list[dict[str, str]]] = {}
    for problem in outcome.problems:
        found.setdefault(problem["key"], []).append(problem)
    return tuple(
        Problem(variant=variant.name, case=request.case.id, seed=request.seed, **problem)
        for variant in plan.variants
        for request in plan.requests[variant.name]
        for problem in found.get(request.key, ())
    )
