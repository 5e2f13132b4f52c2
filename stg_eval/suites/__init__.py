"""Suites: what is shown, how often, and how it is scored. One YAML file each in this folder, or a user's own."""

from stg_eval.datasets.dataset import Dataset, Reference
from stg_eval.suites.reading import load, names
from stg_eval.suites.sampling import samples
from stg_eval.suites.sources import DATASETS, open_dataset
from stg_eval.suites.suite import Suite

__all__ = ["DATASETS", "Dataset", "Reference", "Suite", "load", "names", "open_dataset", "samples"]
