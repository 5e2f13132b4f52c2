"""Scores of a plain folder of videos, whoever made them: files in, results out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pandas as pd

from stg_eval import executors, weights
from stg_eval.executors.loading import Loaded, load_metrics
from stg_eval.executors.worker import Item, Setup
from stg_eval.metrics import MetricCard, registry
from stg_eval.pipeline import estimates, pairs, score
from stg_eval.pipeline.status import Status
from stg_eval.pipeline.work import Work
from stg_eval.provenance import provenance
from stg_eval.storage.record import Missing, Problem, RunRecord, Variant
from stg_eval.storage.results import Results
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader, UnreadableVideo, find_videos, probe
from stg_eval.suites import Reference
from stg_eval.types import StgEvalError


def score_folder(
    folder: Path,
    reference: Path | None,
    metrics: Sequence[str],
    path: Path,
    store_path: Path,
    device: str,
    engine: str,
    reader: Reader,
    strict: bool,
) -> Results:
    """Return Results, not yet written to `path`, of the metrics by name; without names, of all that the folder allows.

    `folder` may be one video, too. Set metrics that compare with real clips need their folder, `reference`. Raises
    StgEvalError for a folder without videos and for a metric that cannot be computed; unreadable files are in the
    results. Files of equal bytes all count; they, what was left out and how frames were converted are in the record's
    notes. `strict` refuses the videos that have notes of their own (see `VideoInfo.notes`).
    """
    ours = _look(folder, strict)
    theirs = _look(reference, strict) if reference else _Look()
    for reason in theirs.refused.values():
        raise StgEvalError(f"a reference clip cannot be used: {reason}")
    real_clips = _reference(reference, theirs.items) if reference else None
    cards = _metrics(metrics, len(ours.items) - len(ours.refused), real_clips)
    loaded = load_metrics([card for card in cards if card.load], device, engine)
    paired = {card.name: registry.load_pair(card, device) for card in cards if card.load_pair}
    partners = _partners(folder, ours.items, reference, theirs.items) if reference and paired else []
    partners = [pair if pair and pair.key not in ours.refused else None for pair in partners]
    with Store(store_path, alone=False) as store:
        todo = {item.key: item for item in ours.items if item.key not in ours.refused}
        with executors.start("local", Setup(store_path, device, reader), loaded) as does, Status(None) as status:
            outcome = Work(store, loaded).do(does, (), list(todo.values()), status)
            wanted = {c.name: loaded[c.name] for c in cards if c.needs_reference}
            real = score.reference_features(real_clips, wanted, store, does) if real_clips else {}
        table = _table(folder, ours.items, cards, loaded, store)
        table, unlike = pairs.fill(table, partners, paired, store, reader)
        cells = estimates.cells(
            table, cards, {**loaded, **paired}, store, real, baseline=None, cluster="sample", published={}
        )
    name = folder.resolve().name
    alone = "there is no video of this name under --reference"
    there = [pair or item.key in ours.refused for pair, item in zip(partners, ours.items, strict=False)]
    unlike |= {(i, metric): alone for i, known in enumerate(there) if not known for metric in paired}
    problems = {key: list(group) for key, group in groupby(outcome.problems, key=itemgetter("key"))}
    cases = [(item.key, _case(folder, item)) for item in ours.items]
    missing = outcome.missing | ours.refused
    record = RunRecord(
        suite="folder",
        title=f"Videos in {name}",
        model="files",
        variants=(Variant(name=name, signature=f"{len(cases)} files"),),
        baseline=None,
        cluster="sample",
        expected=len(cases),
        store=str(store_path.resolve()),
        reader_of_new_scores=reader,
        provenance=provenance(device),
        problems=(
            *(Problem(variant=name, case=case, seed=0, **p) for key, case in cases for p in problems.get(key, ())),
            *(
                Problem(variant=name, case=cases[i][1], seed=0, key=cases[i][0], metric=metric, problem=problem)
                for (i, metric), problem in unlike.items()
            ),
        ),
        features=estimates.features_record(cards, loaded, real_clips),
        missing=tuple(
            Missing(variant=name, case=case, seed=0, problem=missing[key]) for key, case in cases if key in missing
        ),
        notes=(*ours.notes, *theirs.notes),
    )
    return Results(path, record, estimates.columns(cards, {**loaded, **paired}, cells), cells, table)


def _metrics(names: Sequence[str], n: int, real: Reference | None) -> list[MetricCard]:
    """Return the metrics asked for, or all that need nothing but the folder's `n` videos, the real clips and the
    weights here.

    Raises StgEvalError for one that cannot be computed from these.
    """
    cards = [registry.card(name) for name in names] or [
        card
        for card in registry.METRICS.values()
        if card.load
        and not card.needs_case
        and card.min_clips <= n
        and not card.embedded
        and (not card.needs_reference or (real is not None and real.count >= card.min_clips))
        and all(weights.is_present(w) for w in card.weights)
    ]
    for card in cards:
        if card.needs_case:
            raise StgEvalError(f"{card.name} compares a clip with its prompt or label, which a folder does not tell")
        if card.needs_reference and real is None:
            raise StgEvalError(f"{card.name} compares with real clips; give their folder with --reference")
        if card.load_pair and real is None:
            raise StgEvalError(
                f"{card.name} compares with videos of the same names; give their folder with --reference"
            )
        if card.needs_reference and real and real.count < card.min_clips:
            raise StgEvalError(
                f"{card.name} needs at least {card.min_clips} real clips, and --reference holds {real.count}; "
                "add some, or leave it out of --metrics"
            )
        if n < card.min_clips:
            raise StgEvalError(f"{card.name} needs at least {card.min_clips} clips, and the folder holds {n}")
    return cards


@dataclass
class _Look:
    """What lies in a folder of videos."""

    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, which files are equal, what to know of a file's frames."""
    refused: dict[str, str] = field(default_factory=dict)
    """Key -> path and reason; under a key of their own, since scores of these files may be in the store."""


def _look(place: Path, strict: bool) -> _Look:
    """Return the videos of a folder; with `strict`, those are refused whose frames there is something to know of."""
    found = find_videos(place)
    look = _Look(notes=[f"{place}: left out {found.left_out}"] if found.left_out else [])
    seen: dict[str, tuple[Path, str]] = {}
    for path in found.files:
        key = score.file_key(path)
        first, about = seen.get(key) or seen.setdefault(key, (path, _notes(path)))
        if first != path:
            look.notes.append(f"{path} is the same file as {first}; both are counted")
        elif about:
            look.notes.append(f"{path}: {about}")
        if about and strict:
            key = key.replace("file/", "refused/")
            look.refused[key] = f"{path}: {about}; leave out --strict to take it"
        look.items.append(Item(key, path, None))
    return look


def _notes(path: Path) -> str:
    with suppress(UnreadableVideo):  # which scoring will say
        return "; ".join(probe(path).notes)
    return ""


def _reference(folder: Path, items: Sequence[Item]) -> Reference:
    """Return the real clips; their digest covers the bytes of all, in order."""
    digest = hashlib.sha256(bytes.fromhex("".join(item.key.removeprefix("file/") for item in items)))
    return Reference(f"{folder.name}|{len(items)}", digest.hexdigest(), [item.path for item in items], len(items))


def _partners(folder: Path, items: Sequence[Item], reference: Path, others: Sequence[Item]) -> list[pairs.Pair | None]:
    """For each video its pair with the one of the same name under `reference`, whatever their suffixes."""
    if folder.is_file() and reference.is_file():
        named = {_case(folder, items[0]): others[0]}
    else:
        stems = {str(Path(_case(reference, other)).with_suffix("")): other for other in others}
        named = {
            case: stems[stem] for i in items if (stem := str(Path(case := _case(folder, i)).with_suffix(""))) in stems
        }
    found = ((item, named.get(_case(folder, item))) for item in items)
    return [pairs.Pair(item.key, item.path, other.key, other.path) if other else None for item, other in found]


def _case(folder: Path, item: Item) -> str:
    return str(item.path.relative_to(folder if folder.is_dir() else folder.parent))


def _table(
    folder: Path, items: Sequence[Item], cards: Sequence[MetricCard], loaded: Loaded, store: Store
) -> pd.DataFrame:
    keys = [item.key for item in items]
    table = pd.DataFrame(
        {
            "variant": folder.resolve().name,
            "case": [_case(folder, item) for item in items],
            "prompt": "",
            "label": pd.array([None] * len(items), dtype="Int64"),
            "tags": "",
            "seed": 0,
            "key": keys,
            "file": [str(item.path.resolve()) for item in items],
        }
    )
    for card in cards:
        if card.load and card.kind == "clip":
            found = store.scores(keys, loaded[card.name].signature)
            table[card.name] = [found.get(key, math.nan) for key in keys]
    return table
