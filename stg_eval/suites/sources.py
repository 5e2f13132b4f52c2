"""Where a suite's cases come from: the data sets by name."""

from __future__ import annotations

import importlib

from stg_eval.datasets.dataset import Dataset
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
"""Name -> module with open_dataset(name, options, reference_clips) -> Dataset."""


def open_dataset(suite: Suite) -> Dataset:
    """The suite's dataset. Raises StgEvalError for an unknown option; missing data shows in `Dataset.missing`."""
    module = importlib.import_module(DATASETS[suite.dataset])
    return module.open_dataset(suite.dataset, suite.dataset_options, suite.reference_clips)  # type: ignore[no-any-return]
