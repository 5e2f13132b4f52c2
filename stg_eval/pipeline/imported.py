"""Someone's VBench results, eval_results.json, as a run: to look at, and to compare with one of ours."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stg_eval.metrics import MetricCard, registry
from stg_eval.pipeline import estimates, totals
from stg_eval.pipeline.export import PER_VIDEO
from stg_eval.storage import csv_text
from stg_eval.storage.record import Provenance, RunRecord, Variant
from stg_eval.storage.results import Results
from stg_eval.storage.walk import visible_files
from stg_eval.suites import Suite, open_dataset
from stg_eval.types import Case, StgEvalError
from stg_eval.version import __version__

Dimensions = dict[str, tuple[float, dict[str, float]]]
"""Dimension -> the mean that the file gives, and file name -> value in our unit."""


class _Given(NamedTuple):
    """What stands for a metric whose networks ran elsewhere."""

    signature: str


def import_results(path: Path, suite: Suite, variant: str, output: Path) -> Results:
    """Return Results, not yet written to `output`, of VBench's eval_results.json, a zip or a folder of such files.

    Clips are named as VBench names them, {prompt}-{index}.mp4: the prompt finds the case of `suite`, the index the
    seed. A prompt that the suite does not have is a case of its own name. Values are taken as they are given; how they
    were made nobody knows, so each signature says that it was imported. Raises StgEvalError for files that are no such
    results, in one line.
    """
    dimensions: Dimensions = {}
    for name, text in _files(path):
        for dimension, found in _dimensions(name, text).items():
            if dimension in dimensions:
                raise StgEvalError(f"{path} has {dimension} twice; give one file of each dimension")
            dimensions[dimension] = found
    if not dimensions:
        raise StgEvalError(f"{path} holds no VBench results (eval_results.json, a zip or a folder of such files)")
    cards = [card for name in dimensions if (card := registry.find(name))]
    dataset = open_dataset(suite)
    cases = {} if dataset.missing else {case.prompt: case for case in dataset.cases()}
    table = _table(dimensions, cards, cases, suite.seed, variant)
    given: Any = {card.name: _Given(f"{card.name}|vbench|imported|v1") for card in cards}
    nothing: Any = None
    cells = estimates.cells(table, cards, given, nothing, {}, baseline=None, cluster=suite.cluster, published={})
    asked = [card for name in suite.metrics if (card := registry.card(name)).parts]
    whole = [card for card in asked if {part.metric for part in card.parts} <= dimensions.keys()]
    cells += totals.cells(table, whole, baseline=None, cluster=suite.cluster, published={})
    columns = estimates.columns(cards, given, cells)
    record = RunRecord(
        suite=suite.name,
        title=suite.title,
        model="imported",
        metrics=tuple(card.name for card in (*cards, *whole)),
        variants=(Variant(name=variant, signature=f"imported from {path.name}"),),
        baseline=None,
        cluster=suite.cluster,
        score_by_tag=True,
        seeds=tuple(sorted({int(seed) for seed in table["seed"]})),
        expected=len(table),
        provenance=Provenance(stg_eval=__version__),
        notes=(*_unknown(dimensions, cards), *_other_means(dimensions, table), *_strangers(table, cases)),
    )
    return Results(output, record, (*columns, *totals.columns(whole, columns)), cells, table)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each JSON file that ends in eval_results.json, or of the one that was given."""
    try:
        if path.is_dir():
            yield from ((str(p), p.read_bytes()) for p in visible_files(path) if p.name.endswith("eval_results.json"))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                names = [n for n in sorted(bundle.namelist()) if n.endswith(".json") and not n.startswith("__")]
                yield from ((f"{path}: {n}", bundle.read(n)) for n in names)
        else:
            yield str(path), path.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        raise StgEvalError(f"cannot read {path}: {error}") from error


def _dimensions(name: str, text: bytes) -> Dimensions:
    out: Dimensions = {}
    try:
        for dimension, (mean, videos) in json.loads(text).items():
            unit = 0.01 if dimension in PER_VIDEO and PER_VIDEO[dimension](1.0) == 100 else 1.0
            values = {_name(video["video_path"]): float(video["video_results"]) * unit for video in videos}
            if len(values) < len(videos):
                raise ValueError(f"{dimension} has a video twice")
            out[dimension] = (float(mean), values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StgEvalError(
            f"{name} is not in the form of VBench's results, {{dimension: [mean, [{{video_path, video_results}}]]}} "
            f"({' '.join(str(error).split())[:100]})"
        ) from error
    return out


def _name(video_path: str) -> str:
    return video_path.replace("\\", "/").rsplit("/", 1)[-1]


def _table(
    dimensions: Dimensions, cards: list[MetricCard], cases: Mapping[str, Case], first_seed: int, variant: str
) -> pd.DataFrame:
    """Return Results.scores: a row a video, in the order of cases and indices."""
    rows = []
    for name in dict.fromkeys(name for _, values in dimensions.values() for name in values):
        prompt, dash, index = name.rpartition(".")[0].rpartition("-")
        if not dash or not index.isdecimal():
            raise StgEvalError(f"{name!r} is not named as VBench names its videos, PROMPT-INDEX.mp4")
        tags = sorted(card.name for card in cards if name in dimensions[card.name][1])
        rows.append(
            {
                "variant": variant,
                "case": cases[prompt].id if prompt in cases else prompt,
                "prompt": prompt,
                "label": None,
                "tags": csv_text.of_words(tags),
                "seed": first_seed + int(index),
                "key": f"imported/{name}",
                "file": "",
                **{card.name: dimensions[card.name][1].get(name, math.nan) for card in cards},
            }
        )
    table = pd.DataFrame(rows).astype({"label": "Int64"})
    return table.sort_values(["case", "seed"], kind="stable", ignore_index=True)


def _unknown(dimensions: Dimensions, cards: list[MetricCard]) -> list[str]:
    """Name dimensions that are no metric here."""
    return [f"{name} is no metric here and is left out" for name in dimensions if name not in {c.name for c in cards}]


def _other_means(dimensions: Dimensions, table: pd.DataFrame) -> list[str]:
    """Say where the file's own mean is not that of its videos: VBench weighs some dimensions by frames."""
    lines = []
    for name, (mean, _) in dimensions.items():
        if name in table and abs(mean - (ours := float(table[name].mean()))) > 1e-6 * max(1.0, abs(mean)):
            lines.append(f"{name}: the file says {mean:.6g}, the mean of its videos is {ours:.6g}, which is taken")
    return lines


def _strangers(table: pd.DataFrame, cases: Mapping[str, Case]) -> list[str]:
    """Count prompts that the suite does not have."""
    unknown = table.loc[~table["prompt"].isin(list(cases)), "prompt"].unique()
    if not len(unknown):
        return []
    return [f"{len(unknown)} prompts are not of the suite and are cases of their own, such as {unknown[0][:60]!r}"]
