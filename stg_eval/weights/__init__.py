"""Checkpoints: what was published (`Weight`), where it lies, intact (`require`), and how it gets here (`fetch`).

`stg_eval.pipeline.checkpoints` knows all rows by name.
"""

from stg_eval.weights.download import download
from stg_eval.weights.fetching import fetch
from stg_eval.weights.local import Checkpoint, cache_dir, is_present, load_torch, require, where
from stg_eval.weights.weight import Weight, digest, size

__all__ = [
    "Checkpoint",
    "Weight",
    "cache_dir",
    "digest",
    "download",
    "fetch",
    "is_present",
    "load_torch",
    "require",
    "size",
    "where",
]
