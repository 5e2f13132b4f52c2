"""Run folders made of numbers: what a comparison reads, without a model behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stg_eval.metrics import MetricCard, registry
from stg_eval.storage import results
from stg_eval.storage.record import AskedFor, FeaturesOf, Provenance, RealClips
from stg_eval.storage.results import Column, Results
from stg_eval.storage.store import Store
from stg_eval.types import Score

EXTRACTOR = "toy|4d"


def _distance(features: np.ndarray, reference: np.ndarray | None) -> float:
    assert reference is not None
    return float(np.linalg.norm(features.mean(0) - reference.mean(0)))


@pytest.fixture(autouse=True)
def _toy_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "sharpness" (a clip score, more is better) and "toy_fvd" (distance of feature means, less is better)."""
    common: dict[str, Any] = {"load": lambda device: None, "digits": 3}
    for card in (
        MetricCard(name="sharpness", title="Sharpness", short="Sh", higher_is_better=True, **common),
        MetricCard(
            name="toy_fvd",
            title="Toy FVD",
            short="tF",
            statistic=_distance,
            higher_is_better=False,
            needs_reference=True,
            min_clips=8,
            **common,
        ),
    ):
        monkeypatch.setitem(registry.METRICS, card.name, card)


@pytest.fixture
def make_run(tmp_path: Path, make_record: Callable[..., Any]) -> Callable[..., Path]:
    """A run folder with its own store: `clips` pairs of (case, seed) a variant, scores and features drawn around
    noise that depends on the pair alone, shifted by `sharper` and `moved`. Runs with one name of `requests` asked for
    the same clips. `record` are fields of run.json."""

    def make(
        name: str,
        *,
        cases: int = 40,
        seeds: Sequence[int] = (0, 1),
        variants: Sequence[str] = ("cfg",),
        sharper: float = 0.0,
        moved: float = 0.0,
        noise: float = 0.1,
        rng_seed: int = 0,
        requests: str = "",
        edit: Callable[[Results], None] | None = None,
        record: Mapping[str, Any] = MappingProxyType({}),
        **request: Any,
    ) -> Path:
        shared, own = np.random.default_rng(0), np.random.default_rng([1, rng_seed, *name.encode()])
        store_path = tmp_path / f"{name}-store"
        rows: list[dict[str, Any]] = []
        features: dict[tuple[str, str], np.ndarray] = {}
        for variant in variants:
            for c in range(cases):
                for seed in seeds:
                    key = f"{requests or name}-{variant}-{c}-{seed}"
                    value = shared.normal() + sharper + noise * own.normal()
                    prompt = f"a cat | number {c} <b>"
                    rows.append(
                        {
                            "variant": variant,
                            "case": f"case-{c}",
                            "prompt": prompt,
                            "label": c % 3,
                            "tags": "",
                            "seed": seed,
                            "key": key,
                            "file": f"clips/{key}.mp4",
                            "sharpness": value,
                        }
                    )
                    features[key, EXTRACTOR] = (shared.normal(size=4) + 1 + moved + noise * own.normal(size=4)).astype(
                        np.float32
                    )
        real = {(f"reference/real/{i}", EXTRACTOR): shared.normal(size=4).astype(np.float32) for i in range(20)}
        with Store(store_path) as store:
            store.add_results(
                [Score(key=r["key"], metric="sharpness|v1", value=r["sharpness"]) for r in rows], features
            )
            store.add_results([], real)
        asked: dict[str, Any] = {"height": 16, "width": 16, "num_frames": 8, "fps": 8.0, "num_inference_steps": 2}
        asked |= {"model": "toy", "weights": "toy@1", "dtype": "float16", "encoding": "vp9-lossless"} | request
        fields: dict[str, Any] = {
            "variants": {v: f"{v}7" for v in variants},
            "model": "toy",
            "weights": "toy@1",
            "seeds": tuple(seeds),
            "request": AskedFor(**asked),
            "expected": len(rows),
            "store": str(store_path),
            "provenance": Provenance(stg_eval="0.1.0", packages={"torch": "2.0"}, device="cpu"),
            "features": {"toy_fvd": FeaturesOf(extractor=EXTRACTOR, reference=RealClips(digest="real", count=20))},
        }
        columns = tuple(
            Column(
                name=metric,
                title=title,
                short=metric,
                higher_is_better=better,
                scale=1.0,
                digits=3,
                signature=f"{metric}|v1",
                note="",
                kind=kind,
            )
            for metric, title, better, kind in (
                ("sharpness", "Sharpness", True, "clip"),
                ("toy_fvd", "Toy FVD", False, "set"),
            )
        )
        written = make_record(**fields | dict(record))
        run = Results(tmp_path / name, written, columns, (), pd.DataFrame(rows))
        if edit:
            edit(run)
        results.save(run)
        return run.path

    return make
