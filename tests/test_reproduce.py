"""Recipes: the paper's rows, with every setting either stated or marked as our choice."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stg_eval import reproduce
from stg_eval.reports.paper import paper, paper_tables
from stg_eval.reports.render import to_markdown
from stg_eval.results import Column, Estimate, Results
from stg_eval.types import Guidance, StgEvalError

RECIPES = {name: reproduce.recipe(name) for name in reproduce.names()}


def test_there_is_a_recipe_for_each_table_and_for_figure_4() -> None:
    assert set(RECIPES) == {"table1", "table2", "table3", "table4", "table5", "fig4"}


@pytest.mark.parametrize("number", range(1, 6))
def test_a_table_s_runs_make_each_of_its_rows_and_cells(number: int) -> None:
    table = paper()["tables"][number]
    runs = RECIPES[f"table{number}"].runs
    for row in table["rows"]:
        mine = [run for run in runs if run.model == row["model"] and row["guidance"] in run.guidance]
        computed = [metric for run in mine for metric in run.suite.metrics]
        published = [m for m, v in zip(table["metrics"], row["published"], strict=True) if v is not None]
        assert sorted(computed) == sorted(published), "each metric once, from one suite"
        if "against" in row:
            base = next(r for r in table["rows"] if (r["model"], r["method"]) == (row["model"], row["against"]))
            assert all(run.suite.baseline == base["guidance"] for run in mine)


def test_tables_2_4_and_5_share_their_clips() -> None:
    def clips(name: str) -> set[tuple[str, str, str]]:
        return {(run.model, run.suite.name, g) for run in RECIPES[name].runs for g in run.guidance}

    assert clips("table2") < clips("table4")
    assert clips("table2") & clips("table5")
    assert {(m, s) for m, s, _ in clips("table5")} == {(m, s) for m, s, _ in clips("table4")}
    two, four = RECIPES["fig4"].runs[0].suite, RECIPES["table2"].runs[0].suite
    assert (two.dataset, two.dataset_options, two.samples) == (four.dataset, four.dataset_options, four.samples)


def test_sample_counts_are_the_paper_s() -> None:
    ucf, i2v = (run.suite for run in RECIPES["table2"].runs)
    assert (ucf.clips, ucf.metric_clips, ucf.reference_clips) == (10000, {"fvd": 2048, "is": 10000}, 2048)
    assert (i2v.clips, i2v.samples) == (355 * 5, {"default": 5})
    mochi, opensora = (run.suite for run in RECIPES["table1"].runs)
    assert (mochi.clips, opensora.clips) == (100, 2700)


def test_a_smoke_run_compares_with_no_more_real_clips_than_it_makes() -> None:
    def real(**amount: float) -> int | None:
        return reproduce.recipe("table2", **amount).runs[0].suite.reference_clips  # type: ignore[arg-type]

    assert [real(), real(fraction=0.01), real(limit=30), real(fraction=0.5), real(limit=9999)] == [
        2048,
        100,
        30,
        2048,
        2048,
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_guidance_is_written_as_signatures(name: str) -> None:
    for run in RECIPES[name].runs:
        assert len(set(run.guidance)) == len(run.guidance) >= 2
        assert [str(Guidance.parse(g)) for g in run.guidance] == list(run.guidance)


@pytest.mark.parametrize("name", RECIPES)
def test_what_the_paper_leaves_open_is_marked_as_our_choice(name: str) -> None:
    settings = RECIPES[name].settings
    assert {s.model for s in settings} >= {run.model for run in RECIPES[name].runs}
    ours = {s.name for s in settings if not s.stated}
    assert {"rescaling", "layer numbering", "checkpoint, size, frames, fps, steps, precision"} <= ours
    assert any(s.stated and s.name == "CFG scale" for s in settings)


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(StgEvalError, match="did you mean 'table2'"):
        reproduce.recipe("tabel2")


def test_a_row_takes_each_metric_from_the_run_that_has_it(tmp_path: Path) -> None:
    """Table 2's FVD and IS come from UCF-101, its VBench dimensions from another suite of images."""
    nan = float("nan")

    def result(run: reproduce.Run, value: float) -> Results:
        variants = [{"name": g, "signature": g} for g in run.guidance]
        columns = tuple(
            Column(
                name=m, title=m, short=m, higher_is_better=True, scale=1, digits=3, signature=m, note="", kind="clip"
            )
            for m in run.suite.metrics
        )
        cells = tuple(
            Estimate(
                variant=g,
                metric=m,
                value=value,
                low=nan,
                high=nan,
                n=9,
                baseline=None if g == run.suite.baseline else run.suite.baseline,
                difference=value / 8,
                difference_low=value / 9,
                difference_high=value / 7,
                p_value=0.01,
            )
            for g in run.guidance
            for m in run.suite.metrics
        )
        record = {"model": run.model, "suite": run.suite.name, "variants": variants, "baseline": run.suite.baseline}
        return Results(tmp_path / run.suite.name, record | {"missing": []}, columns, cells, pd.DataFrame())

    ucf, i2v = RECIPES["table2"].runs
    (table,) = paper_tables([result(ucf, 111.0), result(i2v, 0.555)], numbers=[2])
    text = to_markdown(table)
    lines = [[cell.strip(" *") for cell in line.split("|")[3:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[1:] for line in lines if line[0] == "ours"] == [["111.000"] * 2 + ["0.555"] * 4] * 2
    (verdicts,) = (line[1:] for line in lines if line[0] == "verdict")
    assert verdicts == ["not reproduced", *["reproduced"] * 5], "a larger FVD is worse, and the paper's fell"
