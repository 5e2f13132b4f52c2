"""Totals of a run stand in its table with intervals; one that lacks a part says which."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stg_eval.metrics import MetricCard, Part
from stg_eval.pipeline import totals
from stg_eval.storage.results import Column

CARD = MetricCard(
    name="total",
    title="Total",
    short="Total",
    higher_is_better=True,
    parts=(Part("quality", 0.75, 0.2, 0.7), Part("flicker", 0.25)),
)


def scores(variants: tuple[str, ...] = ("cfg", "stg")) -> pd.DataFrame:
    """Twenty cases of two samples; quality on the even, flicker on the odd ones, where a filter picks one sample."""
    rng = np.random.default_rng(0)
    rows = []
    for place, variant in enumerate(variants):
        for case in range(20):
            for seed in (0, 1):
                score = 0.4 + 0.01 * case + 0.1 * place + 0.01 * rng.random()
                picked = seed == (case + place) // 2 % 2
                rows.append(
                    {
                        "variant": variant,
                        "case": f"case-{case}",
                        "seed": seed,
                        "quality": score if case % 2 == 0 else np.nan,
                        "flicker": score if case % 2 and picked else np.nan,
                    }
                )
    return pd.DataFrame(rows)


def cells(table: pd.DataFrame, card: MetricCard = CARD) -> dict[str, object]:
    found = totals.cells(
        table, [card], baseline="cfg", cluster="case", published={"stg": {"total": 0.9}}, by_case={"flicker"}
    )
    return {cell.variant: cell for cell in found}


def test_total_of_a_run_is_the_formula_over_its_means() -> None:
    table = scores()
    found = cells(table)
    for variant, cell in found.items():
        means = table[table["variant"] == variant][["quality", "flicker"]].mean()
        expected = 0.75 * (means["quality"] - 0.2) / 0.5 + 0.25 * means["flicker"]
        assert cell.value == pytest.approx(expected) == pytest.approx(totals.value(CARD, means))
        assert cell.low < cell.value < cell.high
        assert (cell.n, cell.problem) == (30, "")
    cfg, stg = found["cfg"], found["stg"]
    assert cfg.baseline is None
    assert np.isnan(cfg.difference)
    assert stg.difference == pytest.approx(stg.value - cfg.value)
    assert 0 < stg.difference_low < stg.difference < stg.difference_high
    assert stg.difference_high - stg.difference_low < (stg.high - stg.low) / 4, "pairs share what makes cases differ"
    assert stg.published == 0.9


def test_total_that_lacks_a_part_has_no_value_and_says_which() -> None:
    for table in (scores().drop(columns="flicker"), scores().assign(flicker=np.nan)):
        for cell in cells(table).values():
            assert np.isnan(cell.value)
            assert cell.problem == "Total needs flicker too, which this run has no scores of"


def test_signature_of_a_total_follows_those_of_its_parts() -> None:
    def signature(of_quality: str) -> str:
        columns = [
            Column(
                name=name,
                title="",
                short="",
                higher_is_better=True,
                scale=1,
                digits=1,
                signature=of,
                note="",
                kind="clip",
            )
            for name, of in (("quality", of_quality), ("flicker", "f|v1"))
        ]
        (found,) = totals.columns([CARD], columns)
        assert found.kind == "total"
        return found.signature

    assert signature("q|v1") == signature("q|v1") != signature("q|v2")
    assert signature("q|v1").startswith("total|")
