"""A made-up run with clips whose every frame shows its own number, so that tests can see which frame is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stg_eval.storage.record import FeaturesOf, RunRecord
from stg_eval.storage.results import Column, Estimate, Results

NASTY = r"""<script>alert("x")</script> & 50% of $\alpha_1$ | #1 {~^} `code` "quoted" é 猫 </textarea>"""

FVD = Column(
    name="fvd",
    title="Fréchet Video Distance",
    short="FVD",
    higher_is_better=False,
    scale=1.0,
    digits=1,
    signature="FVD|c3d|16f|n64|v1",
    note="Compares only with itself.",
    kind="set",
)
FLICKER = Column(
    name="temporal_flickering",
    title="Temporal Flickering",
    short="TF",
    higher_is_better=True,
    scale=1.0,
    digits=3,
    signature="TF|vbench|v1",
    note="",
    kind="clip",
)
DEGREE = Column(
    name="dynamic_degree",
    title="Dynamic Degree",
    short="DD",
    higher_is_better=True,
    scale=1.0,
    digits=2,
    signature="DD|raft|v1",
    note="",
    kind="clip",
)
COLUMNS = (FVD, FLICKER, DEGREE)

VARIANTS = {"cfg": "cfg3", "stg-a": "cfg3+stg-a[3]s2t2", "stg-r": "cfg3+stg-r[3]w1"}


def estimates(
    scores: pd.DataFrame, variants: Sequence[str], columns: Sequence[Column], baseline: str | None
) -> tuple[Estimate, ...]:
    """Means of the clip columns with normal intervals, made-up values for the set columns."""
    out = []
    for i, variant in enumerate(variants):
        mine = scores[scores.variant == variant]
        for column in columns:
            other = baseline if variant != baseline and len(variants) > 1 else None
            if column.kind == "set":
                value, half, difference = 151.3 - 11.3 * i, 8.0, -11.3 * i
                d_half = 6.0
            else:
                value = float(mine[column.name].mean())
                half = 1.96 * float(mine[column.name].std()) / max(1, len(mine)) ** 0.5
                base = scores[scores.variant == baseline].set_index(["case", "seed"])[column.name]
                paired = mine.set_index(["case", "seed"])[column.name] - base
                difference, d_half = float(paired.mean()), 1.96 * float(paired.std()) / max(1, len(paired)) ** 0.5
            nan = float("nan")
            out.append(
                Estimate(
                    variant=variant,
                    metric=column.name,
                    value=value,
                    low=value - half,
                    high=value + half,
                    n=len(mine),
                    baseline=other,
                    difference=difference if other else nan,
                    difference_low=difference - d_half if other else nan,
                    difference_high=difference + d_half if other else nan,
                    p_value=0.01 if other else nan,
                )
            )
    return tuple(out)


def frames(index: int, variant: int, num_frames: int, size: int) -> np.ndarray:
    """Frame k is grey level 8 + 12 k (k < 20), with a square that moves right; its colour is the variant's."""
    clip = np.empty((num_frames, size, size, 3), np.uint8)
    clip[:] = (8 + 12 * np.arange(num_frames) % 240).astype(np.uint8)[:, None, None, None]
    colours = ((240, 90, 60), (60, 150, 240), (250, 200, 40), (90, 210, 120))
    side = max(2, size // 3)
    for k in range(num_frames):
        x = (k + index + 2 * variant) % (size - side)
        y = (index * 3 + (variant * k) // 3) % (size - side)
        clip[k, y : y + side, x : x + side] = colours[(variant + index) % 4]
    clip[:, :2, :2] = clip[:, -1:, -1:]
    return clip


def make_run(
    root: Path,
    *,
    pairs: int = 12,
    name: str = "example",
    variants: dict[str, str] | None = None,
    clips: bool = False,
    num_frames: int = 16,
    size: int = 16,
    fps: float = 8.0,
    distinct: int = 10**9,
    run: dict[str, Any] | None = None,
    make_record: Callable[..., RunRecord],
) -> Results:
    """A run of made-up scores in root/NAME, with clips in root/store where `clips` is true. `variants` are {name:
    signature}, by default the first two of VARIANTS; `run` are fields of its record."""
    variants = variants or dict(list(VARIANTS.items())[:2])
    rng = np.random.default_rng(7)
    rows = []
    for i in range(pairs):
        for v, variant in enumerate(variants):
            key = f"{i % distinct:04x}{v:02x}".ljust(64, "0")
            rows.append(
                {
                    "variant": variant,
                    "case": f"case{i // 2:04d}",
                    "prompt": NASTY if i < 2 else f"a {('disc', 'square', 'star')[i % 3]} that moves, take {i // 2}",
                    "label": i % 3,
                    "tags": ("motion colour", "motion", "style")[i % 3],
                    "seed": i % 2,
                    "key": key,
                    "file": f"clips/{key}.mp4",
                    "temporal_flickering": 0.9 + 0.05 * rng.random() + 0.01 * v,
                    "dynamic_degree": float(rng.random() < 0.5 + 0.1 * v),
                }
            )
            file = root / "store" / "clips" / f"{key}.mp4"
            if clips and not file.exists():
                from stg_eval.storage.video import write_video

                file.parent.mkdir(parents=True, exist_ok=True)
                write_video(file, frames(i, v, num_frames, size), fps=fps, encoding="vp9-lossless")
    scores = pd.DataFrame(rows)
    features = {FVD.name: FeaturesOf(extractor="c3d", reference=None)}
    fields = {"seeds": (0, 1), "features": features, "store": str(root / "store"), "expected": len(rows)} | (run or {})
    record = make_record(variants, **fields)
    return Results(root / name, record, COLUMNS, estimates(scores, list(variants), COLUMNS, record.baseline), scores)


@pytest.fixture(scope="session")
def make_results(make_record: Callable[..., RunRecord]) -> Callable[..., Results]:
    return partial(make_run, make_record=make_record)


@pytest.fixture
def results(tmp_path: Path, make_results: Callable[..., Results]) -> Results:
    return make_results(tmp_path, variants=VARIANTS)


@pytest.fixture(scope="session")
def perturb() -> Callable[..., Results]:
    """Change one clip's score and estimate again, as a run would."""

    def change(results: Results, metric: str, by: float) -> Results:
        scores = results.scores.copy()
        scores.loc[scores.index[-1], metric] += by
        made = estimates(scores, results.variants, results.columns, results.run.baseline)
        return replace(results, scores=scores, estimates=made)

    return change
