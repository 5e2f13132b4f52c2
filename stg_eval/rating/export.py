"""What a study leaves beside a run's table.json: ratings.csv (or preferences.csv), the same as parquet, a summary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stg_eval.rating import analysis
from stg_eval.rating.study import Study
from stg_eval.storage import atomic, csv_text
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError


class Summary(NamedTuple):
    """The figures of a study, each a table; see `stg_eval.rating.analysis` for their columns."""

    people: pd.DataFrame
    """Every answer."""
    figures: pd.DataFrame
    """`means` of single clips, or `preference_rates` of pairs."""
    reliability: dict[str, float]
    raters: pd.DataFrame
    agreement: pd.DataFrame


def summarise(study: Study, results: Results) -> Summary:
    """Return everything a study says so far. Raises StgEvalError where nobody has answered yet."""
    single = study.mode == "single"
    people = analysis.ratings(study) if single else analysis.preferences(study)
    if not (people["anchor"] == "").any():
        raise StgEvalError("no clip has been rated yet; send the invitations that `stg-eval rate RUN` prints")
    value = "rating" if single else "preference"
    metrics = [column.name for column in results.columns if column.kind == "clip"]
    return Summary(
        people,
        analysis.means(people, study.settings["baseline"]) if single else analysis.preference_rates(people),
        analysis.reliability(people, value),
        analysis.rater_checks(people, value),
        analysis.agreement(people, value, results.scores, metrics),
    )


def export(study: Study, results: Results) -> list[Path]:
    """Write ratings.csv or preferences.csv, its parquet twin and rating.json into the run's folder; returns the paths.

    Reports draw Fig. 6 from them. Anchors are in the files, marked, and in no figure. Raises StgEvalError where the
    disk refuses or nobody has answered yet.
    """
    summary = summarise(study, results)
    stem = results.path / ("ratings" if study.mode == "single" else "preferences")
    record = {
        "settings": study.settings,
        "figures": _rows(summary.figures),
        "reliability": {name: _number(value) for name, value in summary.reliability.items()},
        "raters": _rows(summary.raters),
        "agreement": _rows(summary.agreement),
    }
    paths = [stem.with_suffix(".csv"), stem.with_suffix(".parquet"), results.path / "rating.json"]
    try:
        atomic.write(paths[0], csv_text.of_frame(summary.people))
        with atomic.replacing(paths[1]) as partial:
            summary.people.to_parquet(partial, index=False)
        atomic.write(paths[2], json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise StgEvalError(f"cannot write to {results.path} ({error.strerror}); free space and try again") from error
    return paths


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _number(value) for name, value in row.items()} for row in table.to_dict("records")]


def _number(value: Any) -> Any:
    """Return a value as JSON has it: nan is null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value.item() if hasattr(value, "item") else value
