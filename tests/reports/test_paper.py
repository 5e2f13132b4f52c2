from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval import generators
from stg_eval.reports.paper import CANNOT_TELL, NOT_REPRODUCED, REPRODUCED, paper, paper_tables, verdict
from stg_eval.reports.writers.latex import latex_document, to_latex
from stg_eval.reports.writers.markdown import to_markdown
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.types import Guidance

TABLES = paper()["tables"]
ROWS = [(n, row) for n, layout in TABLES.items() for row in layout["rows"]]


def test_every_row_names_a_guidance_and_as_many_values_as_its_table_has_metrics() -> None:
    for n, row in ROWS:
        assert str(Guidance.parse(row["guidance"])) == row["guidance"]
        assert len(row["published"]) == len(TABLES[n]["metrics"])
        assert row["model"] in paper()["models"]
        methods = [r["method"] for m, r in ROWS if m == n and r["model"] == row["model"]]
        assert row.get("against", methods[0]) in methods


def test_tables_agree_with_each_other_but_for_the_papers_own_slip() -> None:
    seen: dict[tuple[str, str, str], set[float]] = {}
    for n, row in ROWS:
        for metric, value in zip(TABLES[n]["metrics"], row["published"], strict=True):
            if value is not None:
                seen.setdefault((row["model"], row["guidance"], metric), set()).add(value)
    slips = {key: values for key, values in seen.items() if len(values) > 1}
    assert slips == {("svd", "cfg3+stg-a[8]s2t2", "aesthetic_quality"): {0.638, 0.639}}


@pytest.mark.parametrize("model", ["svd", "mochi", "opensora"])
def test_published_values_equal_those_on_the_models_card(model: str) -> None:
    presets = {str(p.guidance): p for p in generators.card(model).presets.values() if p.published}
    for n, row in ROWS:
        if row["model"] == model:
            for metric, value in zip(TABLES[n]["metrics"], row["published"], strict=True):
                if value is not None and not (n == 4 and metric == "aesthetic_quality"):
                    assert presets[row["guidance"]].published[metric] == value


def column(metric: str = "fvd", higher: bool = False, scale: float = 1.0) -> Column:
    return Column(name=metric, title=metric, short=metric, higher_is_better=higher, scale=scale, digits=3,
                  signature=f"{metric}|v1", note="", kind="set")  # fmt: skip


def estimate(difference: float, low: float, high: float, p_value: float = math.nan) -> Estimate:
    return Estimate(variant="stg", metric="fvd", value=1.0, low=0.9, high=1.1, n=64, baseline="cfg",
                    difference=difference, difference_low=low, difference_high=high, p_value=p_value)  # fmt: skip


@pytest.mark.parametrize(
    ("claimed", "difference", "low", "high", "p_value", "told"),
    [
        (-22.6, -10, -15, -5, 1.0, REPRODUCED),
        (-22.6, 10, 5, 15, 1.0, NOT_REPRODUCED),
        (-22.6, -10, -40, 20, 1.0, CANNOT_TELL),
        (-22.6, -1, -5, 3, 1.0, NOT_REPRODUCED),
        (-22.6, -10, math.nan, math.nan, 0.01, REPRODUCED),
        (-22.6, 10, math.nan, math.nan, 0.01, NOT_REPRODUCED),
        (-22.6, -10, math.nan, math.nan, 0.2, CANNOT_TELL),
        (-22.6, -10, math.nan, math.nan, math.nan, CANNOT_TELL),
        (-22.6, math.nan, math.nan, math.nan, math.nan, CANNOT_TELL),
    ],
)
def test_verdicts(claimed: float, difference: float, low: float, high: float, p_value: float, told: str) -> None:
    assert verdict(column(), claimed, estimate(difference, low, high, p_value)) == told


@given(st.floats(-9, 9), st.floats(0.01, 9), st.floats(-9, 9).filter(lambda c: abs(c) > 1e-6))
def test_verdict_does_not_depend_on_the_sign_convention_or_the_unit(middle: float, half: float, claim: float) -> None:
    told = verdict(column(), claim, estimate(middle, middle - half, middle + half))
    assert verdict(column(), -claim, estimate(-middle, -middle - half, -middle + half)) == told
    small = estimate(middle / 4, (middle - half) / 4, (middle + half) / 4)
    assert verdict(column(scale=4.0), claim, small) == told
    if told == REPRODUCED:
        assert (middle - half) * claim > 0
        assert (middle + half) * claim > 0


def run_of(table: int, model: str, path: Path, make_results: Callable[..., Results], **run: Any) -> Results:
    """A run with every row of a table, 1 % off the published values, with an interval of 2 %."""
    layout = TABLES[table]
    rows = [r for r in layout["rows"] if r["model"] == model]
    variants = {r["method"]: r["guidance"] for r in rows}
    empty = make_results(path, pairs=2, variants=variants, run={"model": model, "weights": "hub/id@1a2b_3c"} | run)
    columns, estimates = [], []
    for i, metric in enumerate(layout["metrics"]):
        known = paper()["metrics"][metric]
        columns.append(replace(column(metric, known["higher_is_better"]), short=known["short"]))
        for k, row in enumerate(rows):
            value, base = row["published"][i], rows[0]["published"][i]
            if value is not None:
                d, half = (value - base) if k else math.nan, abs(value) * 0.02
                estimates.append(
                    Estimate(variant=row["method"], metric=metric, value=value * 1.01, low=value, high=value * 1.02,
                             n=64, baseline=rows[0]["method"] if k else None, difference=d, difference_low=d - half,
                             difference_high=d + half, p_value=0.5)
                )  # fmt: skip
    return replace(empty, path=path / f"{model}-{table}", columns=tuple(columns), estimates=tuple(estimates))


@pytest.fixture
def runs(tmp_path: Path, make_results: Callable[..., Results]) -> list[Results]:
    wanted = dict.fromkeys((n, row["model"]) for n, row in ROWS if row["model"] != "mochi")
    return [run_of(n, model, tmp_path, make_results) for n, model in wanted]


def lines(table: Any, method: str) -> dict[str, list[str]]:
    at = next(i for i, row in enumerate(table.rows) if row.labels[1] == method)
    out = {table.rows[at].labels[2]: table.rows[at]}
    for row in table.rows[at + 1 :]:
        if row.labels[1]:
            break
        out[row.labels[2]] = row
    return {label: [cell.text for cell in row.cells] for label, row in out.items()}


def test_published_ours_difference_and_verdict_stand_together(runs: list[Results]) -> None:
    stg = lines(next(t for t in paper_tables(runs) if t.name == "table-2"), "STG")
    assert stg["published"] == ["128.7", "38.5", "0.694", "0.639", "0.968", "0.694"]
    assert stg["ours"][0] == "129.987"
    assert stg["ours − published"][0] == "+1.287"
    assert stg["minus CFG, published"] == ["-22.6", "+0.5", "+0.007", "+0.002", "+0.002", "+0.132"]
    assert stg["minus CFG, ours"][0] == "-22.600"
    assert stg["verdict"] == ["reproduced", "cannot tell", "cannot tell", "cannot tell", "cannot tell", "reproduced"]


def test_table_without_a_run_is_left_out_and_a_row_without_a_run_says_so(runs: list[Results]) -> None:
    assert [t.name for t in paper_tables([r for r in runs if r.path.name == "svd-2"])] == [
        "table-2",
        "table-3",
        "table-4",
        "table-5",
    ]
    assert paper_tables([]) == []
    table = paper_tables(runs)[0]
    assert lines(table, "CFG")["ours"] == ["not run"] * 5, "no Mochi run"
    assert len(paper_tables([], numbers=[1, 2, 3, 4, 5])) == 5


def test_random_weights_get_no_verdict(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    run = run_of(2, "svd", tmp_path, make_results, weights="random-weights(tiny, seed 0)")
    assert set(lines(paper_tables([run])[0], "STG")["verdict"]) == {"random weights"}


def test_run_with_another_baseline_is_not_compared(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    run = run_of(4, "svd", tmp_path, make_results)
    table = next(t for t in paper_tables([run]) if t.name == "table-5")
    assert set(lines(table, "STG")["ours"]) != {"not run"}
    assert "verdict" in lines(table, "STG-ORTH") or lines(table, "STG-ORTH")["ours"] == ["not run"] * 6
    moved = replace(run, run=run.run.model_copy(update={"baseline": "+ spatial"}))
    table = next(t for t in paper_tables([moved]) if t.name == "table-2")
    assert set(lines(table, "STG")["verdict"]) == {"not compared"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (apt install texlive-latex-recommended)")
def test_latex_of_all_five_tables_compiles(tmp_path: Path, runs: list[Results]) -> None:
    tables = paper_tables(runs)
    assert len(tables) == 5
    nasty = r"\input{x} $a_b^c$ 50 % of #1 & {~} <b> 'q' “w” — é ž ß 猫 \\ ] [" + '"'
    tables.append(replace(tables[0], name="nasty", title=nasty, notes=(nasty,), remarks=(nasty, f"`{nasty}`")))
    for table in tables:
        (tmp_path / f"{table.name}.tex").write_text(to_latex(table), encoding="utf-8")
    (tmp_path / "all.tex").write_text(latex_document([t.name for t in tables]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", "-layout", "all.pdf", "-"], cwd=tmp_path, capture_output=True
        ).stdout.decode()
        assert "128.7" in text
        assert "U+732B" in text, "a character that the fonts lack is named, not dropped"


def test_markdown_of_the_paper_keeps_the_published_digits(runs: list[Results]) -> None:
    text = to_markdown(paper_tables(runs)[0])
    assert "**0.87**" in text
    assert "0.870" not in text
    assert "0.550" in to_markdown(paper_tables(runs)[2])
