"""Cells of a table: each metric counts the clips that the suite gives it, and differences are those of the values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stg_eval import suites
from stg_eval.gate import snapshot
from stg_eval.metrics import SetMetric, registry
from stg_eval.pipeline import estimates, run
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.storage import results
from stg_eval.storage.results import Estimate, Results
from stg_eval.storage.store import Store

DEMO = suites.load("demo")


@pytest.fixture
def plan() -> Plan:
    """96 clips a variant, FVD on the first 64 of them; IS, with the same features, on all."""
    suite = replace(DEMO, metric_clips={"fvd_sprites": 64})
    made = make_plan(suite, "tiny", guidance=("cfg", "stg"), metric_names=("fvd_sprites", "is_sprites"), limit=96)
    cards = (replace(card, statistic=lambda features, real: float(features.mean())) for card in made.metrics)
    return replace(made, metrics=tuple(cards))


def mean_of(name: str) -> SetMetric:
    return SetMetric(f"{name}|n*|v1", SimpleNamespace(signature="toy"))  # type: ignore[arg-type]


def finished(plan: Plan, folder: Path) -> Results:
    """What a run writes, its features drawn: that of clip i in the order of the plan has the mean i, plus 1 for STG."""
    loaded = {card.name: mean_of(card.name) for card in plan.metrics}
    with Store(folder / "store") as store:
        store.add_results(
            [],
            {
                (request.key, "toy"): np.full(3, i + v, np.float32)
                for v, variant in enumerate(plan.variants)
                for i, request in enumerate(plan.requests[variant.name])
            },
        )
        table, _ = run._score_table(plan, store, loaded, set())
        cells = estimates.cells(table, plan.metrics, loaded, store, {}, baseline="cfg", cluster="case", published={})
    features = estimates.features_record(plan.metrics, loaded, None)
    record = run.describe(plan, folder / "store", "cpu").model_copy(update={"features": features})
    found = Results(folder / "run", record, estimates.columns(plan.metrics, loaded, cells), cells, table)
    results.save(found)
    return found


def test_set_metric_limited_to_n_clips_counts_n_whatever_features_the_store_has(plan: Plan, tmp_path: Path) -> None:
    found = finished(plan, tmp_path)
    for variant, place in (("cfg", 0), ("stg", 1)):
        fvd, inception = found.estimate(variant, "fvd_sprites"), found.estimate(variant, "is_sprites")
        assert (fvd.n, fvd.value) == (64, 31.5 + place)
        assert (inception.n, inception.value) == (96, 47.5 + place)
    assert found.estimate("stg", "fvd_sprites").difference == 1
    assert [column.signature for column in found.columns] == ["fvd_sprites|n64|v1", "is_sprites|n96|v1"]


def test_what_a_set_metric_counts_can_be_read_from_the_folder_and_from_a_baseline_file(
    plan: Plan, tmp_path: Path
) -> None:
    finished(plan, tmp_path)
    snapshot.write(snapshot.load(tmp_path / "run"), tmp_path / "baseline.zip")
    first = [True] * 64 + [False] * 32
    for side in (snapshot.load(tmp_path / "run"), snapshot.load(tmp_path / "baseline.zip")):
        assert side.counted("fvd_sprites").tolist() == 2 * first
        assert side.counted("is_sprites").all()


def test_features_that_no_metric_of_the_run_counts_are_left_in_the_store(plan: Plan, tmp_path: Path) -> None:
    """Another run with this store may have made them: what this one is must not depend on that."""
    finished(replace(plan, metrics=plan.metrics[:1]), tmp_path)
    features = snapshot.load(tmp_path / "run").features["toy"]
    assert np.isnan(features).any(axis=1).tolist() == 2 * ([False] * 64 + [True] * 32)


def static_cell(scores: pd.DataFrame) -> tuple[Estimate, Estimate]:
    """Of "cfg" and "stg", temporal flickering on clips that the static filter picked."""
    card = registry.card("temporal_flickering")
    scores = scores.rename(columns={"score": card.name})
    cells = estimates.cells(
        scores,
        [card],
        {card.name: None},  # type: ignore[dict-item]
        None,  # type: ignore[arg-type]
        {},
        baseline="cfg",
        cluster="case",
        published={},
        by_case={card.name},
    )
    return cells[0], cells[1]


def test_difference_of_clips_that_a_filter_picked_is_the_difference_of_the_two_values() -> None:
    """Each variant's filter picks five of ten seeds of a case, here the even and the odd with one seed in common."""
    rng = np.random.default_rng(0)
    picks = {"cfg": (0, 2, 4, 6, 8), "stg": (1, 3, 5, 7, 8)}
    scores = pd.DataFrame(
        {"variant": variant, "case": f"case-{c}", "seed": seed, "score": rng.random() if seed in kept else np.nan}
        for variant, kept in picks.items()
        for c in range(12)
        for seed in range(10)
    )
    cfg, stg = static_cell(scores)
    assert stg.n == 60
    assert stg.difference == pytest.approx(stg.value - cfg.value)
    assert stg.difference_low < stg.difference < stg.difference_high
    disjoint = scores[scores["seed"] != 8]
    assert static_cell(disjoint)[1].difference == pytest.approx(
        static_cell(disjoint)[1].value - static_cell(disjoint)[0].value
    )


@pytest.mark.parametrize("metric", ["fvd_sprites", "is_sprites"])
def test_interval_holds_no_value_that_the_metric_cannot_take(plan: Plan, tmp_path: Path, metric: str) -> None:
    """A statistic at its least that jumps with every clip left out: the jackknife alone would go below."""
    (card,) = (card for card in plan.metrics if card.name == metric)
    low = card.limits[0]
    loaded = {c.name: mean_of(c.name) for c in plan.metrics}
    card = replace(
        card, statistic=lambda features, real: low + (len(features) not in (64, 96)) * float(features.sum() % 7)
    )
    found = finished(plan, tmp_path)
    with Store(tmp_path / "store", write=False) as store:
        cells = estimates.cells(found.scores, [card], loaded, store, {}, baseline=None, cluster="case", published={})
    assert {cell.low for cell in cells} == {low}
    assert all(cell.low <= cell.value <= cell.high for cell in cells)
