"""Scores of a plain folder of videos, whoever made them: files in, results out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stg_eval import weights
from stg_eval.metrics import MetricCard, registry
from stg_eval.pipeline import estimates, score
from stg_eval.pipeline.score import Item
from stg_eval.provenance import provenance
from stg_eval.storage.results import Results
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader, find_videos
from stg_eval.suites import Reference
from stg_eval.suites.reference import folder_reference
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
) -> Results:
    """Results, not yet written to `path`, of the metrics by name; without names, of all that the folder allows.

    Set metrics that compare with real clips need their folder, `reference`. Raises StgEvalError for a folder without
    videos or with one twice, and for a metric that cannot be computed; unreadable files are in the results.
    """
    name = folder.resolve().name
    videos = find_videos(folder)
    real_clips = folder_reference(reference) if reference else None
    cards = _metrics(metrics, len(videos), real_clips)
    items = _items(videos)
    loaded = score.load_metrics(cards, device, engine)
    with Store(store_path) as store:
        outcome = score.score_items(items, loaded, store, reader=reader)
        wanted = {c.name: loaded[c.name] for c in cards if c.needs_reference}
        real = score.reference_features(real_clips, wanted, store, reader) if real_clips else {}
        table = _table(folder, items, cards, loaded, store)
        cells = estimates.cells(table, cards, loaded, store, real, baseline=None, cluster="sample", published={})
    rows = {item.key: {"variant": name, "case": str(item.path.relative_to(folder)), "seed": 0} for item in items}
    record = {
        "suite": "folder",
        "title": f"Videos in {name}",
        "model": "files",
        "variants": [{"name": name, "signature": str(len(items)) + " files"}],
        "baseline": None,
        "cluster": "sample",
        "expected": len(items),
        "store": str(store_path.resolve()),
        "reader_of_new_scores": reader,
        "provenance": provenance(device),
        "problems": [rows[problem["key"]] | problem for problem in outcome.problems],
        "features": estimates.features_record(cards, loaded, real_clips),
        "missing": [
            row | {"problem": outcome.unreadable[key]} for key, row in rows.items() if key in outcome.unreadable
        ],
    }
    return Results(path, record, estimates.columns(cards, loaded, cells), cells, table)


def _metrics(names: Sequence[str], n: int, real: Reference | None) -> list[MetricCard]:
    """The metrics asked for, or all that need nothing but the folder's `n` videos, the real clips and the weights here.

    Raises StgEvalError for one that cannot be computed from these.
    """
    cards = [registry.card(name) for name in names] or [
        card
        for card in registry.METRICS.values()
        if not card.needs_case
        and card.min_clips <= n
        and not card.name.endswith("_sprites")
        and (not card.needs_reference or (real is not None and real.count >= card.min_clips))
        and all(weights.is_present(w) for w in card.weights)
    ]
    for card in cards:
        if card.needs_case:
            raise StgEvalError(f"{card.name} compares a clip with its prompt or label, which a folder does not tell")
        if card.needs_reference and real is None:
            raise StgEvalError(f"{card.name} compares with real clips; give their folder with --reference")
        if card.needs_reference and real and real.count < card.min_clips:
            raise StgEvalError(
                f"{card.name} needs at least {card.min_clips} real clips, and --reference holds {real.count}; "
                "add some, or leave it out of --metrics"
            )
        if n < card.min_clips:
            raise StgEvalError(f"{card.name} needs at least {card.min_clips} clips, and the folder holds {n}")
    return cards


def _items(videos: Sequence[Path]) -> list[Item]:
    """Raises StgEvalError for a video that is there twice: it would count as two that agree."""
    seen: dict[str, Path] = {}
    for path in videos:
        key = score.file_key(path)
        if key in seen:
            raise StgEvalError(f"{path} is the same file as {seen[key]}; remove one of them")
        seen[key] = path
    return [Item(key, path, None) for key, path in seen.items()]


def _table(
    folder: Path, items: Sequence[Item], cards: Sequence[MetricCard], loaded: score.Loaded, store: Store
) -> pd.DataFrame:
    keys = [item.key for item in items]
    table = pd.DataFrame(
        {
            "variant": folder.resolve().name,
            "case": [str(item.path.relative_to(folder)) for item in items],
            "prompt": "",
            "label": pd.array([None] * len(items), dtype="Int64"),
            "tags": "",
            "seed": 0,
            "key": keys,
            "file": [str(item.path.resolve()) for item in items],
        }
    )
    for card in cards:
        if card.kind == "clip":
            found = store.scores(keys, loaded[card.name].signature)
            table[card.name] = [found.get(key, math.nan) for key in keys]
    return table
