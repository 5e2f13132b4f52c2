"""Defines `Suite`: what is shown, how often, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stg_eval.types import JSONValue

MOST_CLIPS = 10_000_000
"""A variant's clips: more would be an error of writing."""
MOST_SAMPLES = 100_000
"""A case's samples."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite is a protocol; its fields stand in the order in which a YAML file reads best."""

    name: str
    title: str
    dataset: str
    """A name of `stg_eval.suites.sources.DATASETS`."""
    dataset_options: Mapping[str, Any] = field(default_factory=dict)
    """What the dataset takes, e.g. `root`: the folder with the data."""
    samples: Mapping[str, int] = field(default_factory=lambda: {"default": 1})
    """Samples a case: "default", and per tag for cases that have it (the largest applies)."""
    seed: int = 0
    """The k-th sample of every case has seed `seed` + k."""
    clips: int | None = None
    """Clips a variant in the full run. Samples stop there, and a dataset that ends earlier is an error."""
    metrics: tuple[str, ...]
    metric_clips: Mapping[str, int] = field(default_factory=dict)
    """Metrics computed on the first N clips only, e.g. FVD on 2,048 of the 10,000 that IS takes."""
    score_by_tag: bool = False
    """Compute a metric only on clips of cases that have its name as a tag (VBench gives each dimension its prompts)."""
    keep_static: Mapping[str, int] = field(default_factory=dict)
    """Metric -> how many of a case's samples count: the first N that VBench's static filter passes."""
    reference_clips: int | None = None
    """How many real clips FVD compares with."""
    guidance: tuple[str, ...] = ("cfg", "stg")
    """Names of the model's presets, or signatures such as cfg7+stg-a[11]s2t2."""
    baseline: str = "cfg"
    cluster: Literal["case", "sample"] = "case"
    """What the statistics resample: cases with all their samples, or single samples (few cases, many samples)."""
    generation: Mapping[str, JSONValue] = field(default_factory=dict)
    """Overrides of the model's defaults: height, width, num_frames, fps, num_inference_steps, or its own settings."""
