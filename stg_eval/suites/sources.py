"""Opens the data set that a suite takes its cases from: one of ours, or one that another package brings along.

[project.entry-points."stg_eval.datasets"]
mine = "my_package:open_dataset"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from stg_eval.datasets.dataset import Dataset
from stg_eval.plug_ins import plug_ins
from stg_eval.suites.suite import Suite

DATASETS: dict[str, str] = {
    "sprites": "stg_eval.datasets.embedded",
    "ucf101": "stg_eval.datasets.ucf101",
    "vbench-t2v": "stg_eval.datasets.vbench",
    "vbench-i2v": "stg_eval.datasets.vbench",
    "evalcrafter": "stg_eval.datasets.evalcrafter",
    "demo-100": "stg_eval.datasets.demo100",
    "prompts": "stg_eval.datasets.prompts",
    "images": "stg_eval.datasets.images",
}
"""Name -> module with open_dataset(name, options, reference_clips) -> Dataset, and CITATIONS where it asks for any."""


@cache
def others() -> Mapping[str, Callable[..., Dataset]]:
    """Find the data sets of other packages, name -> open_dataset; see `stg_eval.plug_ins`."""

    def name_of(name: str, loaded: Any) -> str:
        if not callable(loaded):
            raise TypeError(f"it is a {type(loaded).__name__}, not a function open_dataset(name, options, clips)")
        return name

    return plug_ins("stg_eval.datasets", name_of, DATASETS)


def citations(suite: Suite) -> tuple[str, ...]:
    """Return the BibTeX entries of the suite's data set, which its module holds as CITATIONS; none where it has not."""
    name = suite.dataset
    home = DATASETS[name] if name in DATASETS else others()[name].__module__
    return tuple(getattr(importlib.import_module(home), "CITATIONS", ()))


def open_dataset(suite: Suite) -> Dataset:
    """Open the suite's data set. Raises StgEvalError for an unknown option; missing data shows in `Dataset.missing`."""
    name = suite.dataset
    opener = importlib.import_module(DATASETS[name]).open_dataset if name in DATASETS else others()[name]
    return opener(name, suite.dataset_options, suite.reference_clips)  # type: ignore[no-any-return]
