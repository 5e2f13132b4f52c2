"""A made-up run with clips: what a tracker or a hub is given in these tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stg_eval.storage import results
from stg_eval.storage.record import AskedFor, Missing
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.storage.store import clip_name
from stg_eval.storage.video import write_video

VARIANTS = {"cfg": "cfg2", "stg-a[6] é": "cfg2+stg-a[6]t0.25"}
SEEDS = (0, 1)
CASES = ("circle-left", "square/right")


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory, make_record: Callable[..., Any]) -> Results:
    """Two variants, two cases, two seeds; one clip is missing and one value is nan."""
    folder = tmp_path_factory.mktemp("made-up")
    store, draw, rows = folder / "store", np.random.default_rng(0), []
    for variant in VARIANTS:
        for case in CASES:
            for seed in SEEDS:
                key = hashlib.sha256(f"{variant}{case}{seed}".encode()).hexdigest()
                gone = (variant, case, seed) == ("cfg", "circle-left", 0)
                if not gone:
                    file = store / clip_name(key)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_video(file, draw.integers(0, 256, (8, 16, 16, 3), np.uint8), 8.0, "vp9-lossless")
                value = math.nan if gone else float(draw.normal())
                rows.append(
                    (variant, case, f'"{case}", é', pd.NA, "", seed, key, "" if gone else clip_name(key), value)
                )
    head = ["variant", "case", "prompt", "label", "tags", "seed", "key", "file", "motion"]
    scores = pd.DataFrame(rows, columns=head).astype({"label": "Int64"})
    column = Column(
        name="motion", title="Motion", short="M", higher_is_better=True, scale=100.0, digits=1, signature="M|v1",
        note="", kind="clip",
    )  # fmt: skip
    cells = []
    for variant in VARIANTS:
        values = scores.loc[scores.variant == variant, "motion"].dropna()
        cells.append(
            Estimate(
                variant=variant, metric="motion", value=float(values.mean()), low=float(values.min()), high=math.nan,
                n=len(values), baseline=None if variant == "cfg" else "cfg", difference=0.1, difference_low=-0.1,
                difference_high=0.30000000000000004, p_value=1e-9, published=1.25,
            )
        )  # fmt: skip
    asked = AskedFor(
        model="tiny", weights="embedded@0123", height=16, width=16, num_frames=8, fps=8.0, num_inference_steps=4,
        dtype="float32", encoding="vp9-lossless",
    )  # fmt: skip
    record = make_record(
        VARIANTS, metrics=("motion",), seeds=SEEDS, expected=len(rows), store=str(store), request=asked,
        missing=(Missing(variant="cfg", case="circle-left", seed=0, problem="no"),),
    )  # fmt: skip
    path = folder / "made-up"
    results.save(Results(path, record, (column,), tuple(cells), scores))
    return results.load(path)
