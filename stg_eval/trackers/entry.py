"""What a tracker is told of a run: scalars with intervals, two tables, and the first pairs of clips."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stg_eval.storage.inside import finding
from stg_eval.storage.results import Results
from stg_eval.types import JSONValue, StgEvalError

NUMBERS = ("low", "high", "n", "difference", "difference_low", "difference_high", "p_value")
"""Fields of an Estimate that stand beside its value."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The clips of one case and seed, one of each variant."""

    case: str
    seed: int
    prompt: str
    clips: Mapping[str, Path]
    """Variant, by its plain name -> its file."""

    @property
    def name(self) -> str:
        """A name that file systems and keys take."""
        return f"{plain(self.case)[:80]}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run, as every tracker gets it."""

    config: Mapping[str, JSONValue]
    """What was asked for, and with what it was made: no path of this machine."""
    scalars: Mapping[str, float]
    """"VARIANT/METRIC" -> value, "VARIANT/METRIC.low" -> the lower end of its 95 % interval, and so on with NUMBERS.
    Unscaled. What is not finite is left out here; the table says why."""
    tables: Mapping[str, pd.DataFrame]
    """"scores": a row a variant and metric; "clips": a row a clip. Text, numbers and None."""
    samples: Sequence[Sample]
    """The first pairs of the run that are whole: nobody chose them by their looks."""
    variants: tuple[str, ...]
    """Plain names, in the order of the run."""


def entry_of(results: Results, samples: int) -> Entry:
    """Read what is told of a run; `samples` pairs go along. A clip that cannot be read costs its pair, with a line on
    stderr."""
    names = plain_names(results.variants)
    scalars: dict[str, float] = {}
    for one in results.estimates:
        key = f"{names[one.variant]}/{one.metric}"
        found = {key: one.value, **{f"{key}.{name}": float(getattr(one, name)) for name in NUMBERS}}
        scalars |= {key: value for key, value in found.items() if math.isfinite(value)}
    return Entry(
        config=_config(results, names),
        scalars=scalars,
        tables={"scores": _scores(results), "clips": _clips(results)},
        samples=_samples(results, names, samples),
        variants=tuple(names.values()),
    )


def plain(text: str) -> str:
    """Return letters, digits, "_", "-" and "." alone: what every tracker takes in a key."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.") or "_"


def plain_names(variants: Sequence[str]) -> dict[str, str]:
    """Map each variant to a plain name, all different."""
    names: dict[str, str] = {}
    for variant in variants:
        name, count = plain(variant), 1
        while name in names.values():
            count += 1
            name = f"{plain(variant)}.{count}"
        names[variant] = name
    return names


def _config(results: Results, names: Mapping[str, str]) -> dict[str, JSONValue]:
    run = results.run
    config: dict[str, JSONValue] = {
        "suite": run.suite,
        "model": run.model,
        "weights": run.request.weights if run.request else run.weights,
        "baseline": run.baseline,
        "seeds": ", ".join(map(str, run.seeds)),
        "clips": run.expected,
        "missing": len(run.missing),
        "stg_eval": run.provenance.stg_eval,
        "git_commit": run.provenance.git_commit,
        "device": run.provenance.gpu or run.provenance.device,
    }
    if run.request:
        asked = run.request.model_dump(exclude={"model", "weights", "settings"})
        config |= {f"request.{name}": value for name, value in asked.items()}
        config |= {f"setting.{name}": value for name, value in run.request.settings.items()}
    config |= {f"guidance.{names[variant.name]}": variant.signature for variant in run.variants}
    config |= {f"metric.{column.name}": column.signature for column in results.columns}
    return config | {f"package.{name}": value for name, value in run.provenance.packages.items()}


def _scores(results: Results) -> pd.DataFrame:
    columns = {column.name: column for column in results.columns}
    return _bare(
        pd.DataFrame(
            {
                "variant": one.variant,
                "guidance": results.run.variant(one.variant).signature,
                "metric": one.metric,
                "value": one.value,
                **{name: getattr(one, name) for name in NUMBERS},
                "baseline": one.baseline,
                "published": one.published,
                "signature": columns[one.metric].signature,
                "problem": one.problem,
            }
            for one in results.estimates
        )
    )


def _clips(results: Results) -> pd.DataFrame:
    return _bare(results.scores.drop(columns=["file"]))


def _bare(frame: pd.DataFrame) -> pd.DataFrame:
    """Python's own values in every cell, None for what is not there: what all clients write and read alike."""

    def bare(value: Any) -> JSONValue:
        return None if pd.isna(value) else value.item() if hasattr(value, "item") else value

    rows = [[bare(value) for value in row] for row in frame.astype(object).to_numpy().tolist()]
    return pd.DataFrame(rows, columns=list(frame.columns), dtype=object)


def _samples(results: Results, names: Mapping[str, str], most: int) -> list[Sample]:
    found: list[Sample] = []
    if not most:
        return found
    find = finding(results.store, set(results.scores["key"]))
    pairs: Any = results.scores.groupby(["case", "seed"], sort=False)
    for (case, seed), pair in pairs:
        if len(found) == most:
            break
        if not pair["file"].all():
            continue
        try:
            paths = [find(row.file, row.key) for row in pair.itertuples()]
            if gone := [path for path in paths if not path.is_file()]:
                raise StgEvalError(f"{gone[0]} is gone")
        except StgEvalError as error:
            print(f"no sample of {case}, seed {seed}: {error}", file=sys.stderr)
            continue
        clips = {names[variant]: path for variant, path in zip(pair["variant"], paths, strict=True)}
        found.append(Sample(case=str(case), seed=int(seed), prompt=str(pair["prompt"].iloc[0]), clips=clips))
    return found
