from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.reports import markdown
from stg_eval.reports.cells import best, mark, number
from stg_eval.reports.gallery import write_page
from stg_eval.reports.table import Cell, Row, Table, turned
from stg_eval.reports.tables import run_tables
from stg_eval.reports.writers import to_csv, to_html, to_latex, to_markdown
from stg_eval.reports.writers.markdown import width
from stg_eval.storage.record import Missing
from stg_eval.storage.results import Column, Estimate, Results

NUMBER = re.compile(r"(?<![\w.])[+-]?\d+\.\d+")
WRITERS = {"md": to_markdown, "csv": to_csv, "html": to_html, "tex": to_latex}


def column(results: Results, name: str) -> Column:
    return next(c for c in results.columns if c.name == name)


def changed(results: Results, variant: str, metric: str, **fields: Any) -> Results:
    """The same run with one estimate changed."""
    estimates = [replace(e, **fields) if (e.variant, e.metric) == (variant, metric) else e for e in results.estimates]
    return replace(results, estimates=tuple(estimates))


def printed(results: Results) -> dict[tuple[str, str], list[str]]:
    """What each estimate should read as: value, low, high, and the difference's three, by an independent route."""
    out = {}
    for e in results.estimates:
        c = column(results, e.metric)
        plain = [f"{x * c.scale:.{c.digits}f}" for x in (e.value, e.low, e.high)]
        signed = [e.difference, e.difference_low, e.difference_high] if e.baseline else []
        plain += [f"{x * c.scale:+.{c.digits}f}" for x in signed]
        out[e.variant, e.metric] = [re.sub(r"^[+-](0\.?0*)$", r"\1", text) for text in plain]
    return out


def test_table_has_a_row_a_variant_with_value_interval_n_and_difference(results: Results) -> None:
    text = markdown(results).replace("−", "-").replace("*", "")
    scores, differences = text.split("Difference from cfg,")
    for variant in results.run.variants:
        line = next(line for line in scores.splitlines() if variant.signature + "`" in line)
        expected = [t for c in results.columns for t in printed(results)[variant.name, c.name][:3]]
        assert NUMBER.findall(line.split("`")[2]) == expected
        assert line.rstrip(" |").endswith(" 12")
    for variant in results.run.variants[1:]:
        line = next(line for line in differences.splitlines() if variant.signature + "`" in line)
        expected = [t for c in results.columns for t in printed(results)[variant.name, c.name][3:]]
        assert [n.removeprefix("+") for n in NUMBER.findall(line.split("`")[2])] == [
            t.removeprefix("+") for t in expected
        ]
    assert "| FVD ↓ |" in re.sub(" +", " ", scores)
    assert "TF ↑" in scores


def test_every_format_prints_the_same_digits(results: Results) -> None:
    for table in run_tables(results):
        bare = replace(table, remarks=())
        found = {}
        for name, write in WRITERS.items():
            text = write(bare).replace(",", " ").replace("−", "-").replace("$-$", "-").replace("$+$", "+")
            text = re.sub(r"<[^>]*>|\\\\\[-?\d+pt\]|\\tiny", " ", text)
            found[name] = sorted(NUMBER.findall(re.sub(r"cfg3\S*", " ", text)))
        assert found["csv"] == found["md"]
        assert found["html"] == found["md"]
        assert found["tex"] == found["md"]
        assert len(found["md"]) >= 18


def test_a_changed_score_moves_text_table_and_page(
    tmp_path: Path, results: Results, perturb: Callable[..., Results]
) -> None:
    other = perturb(results, "temporal_flickering", 0.6)
    before, after = printed(results)["stg-r", "temporal_flickering"], printed(other)["stg-r", "temporal_flickering"]
    assert before[0] != after[0]

    def outputs(of: Results, name: str) -> list[str]:
        page = write_page([of], tmp_path / "no-store", tmp_path / name).read_text()
        tables = [write(table) for write in WRITERS.values() for table in run_tables(of)[:1]]
        return [t.replace("−", "-").replace("$-$", "-") for t in (markdown(of), *tables, page)]

    for old, new in zip(outputs(results, "a.html"), outputs(other, "b.html"), strict=True):
        assert before[0] in old
        assert before[0] not in new
        assert after[0] in new


def test_best_is_bold_by_each_metrics_own_direction(results: Results) -> None:
    rows = to_markdown(run_tables(results)[0]).splitlines()
    stg_r = next(r for r in rows if "stg-r" in r)
    assert "**128.7**" in stg_r, "lower is better for FVD"
    assert sum(r.count("**128.7**") for r in rows) == 1


def test_ties_to_the_printed_digit_share_the_bold(results: Results) -> None:
    fvd = column(results, "fvd")
    estimates = [results.estimate(v, "fvd") for v in results.variants]
    tied = [replace(e, value=v) for e, v in zip(estimates, (99.96, 100.04, 101.0), strict=True) if e]
    assert best(fvd, tied) == [True, True, False]
    assert best(fvd, [tied[0], None, None]) == [False] * 3, "one value alone is not best of anything"


@pytest.mark.parametrize(
    ("low", "high", "p_value", "told"),
    [
        (-9.0, -1.0, 0.5, "better"),
        (1.0, 9.0, 0.5, "worse"),
        (-9.0, 1.0, 0.01, ""),
        (math.nan, math.nan, 0.01, "better"),
        (math.nan, math.nan, 0.2, ""),
    ],
)
def test_marks_follow_the_interval_and_without_one_the_p_value(
    results: Results, low: float, high: float, p_value: float, told: str
) -> None:
    estimate = results.estimate("stg-a", "fvd")
    assert estimate
    difference = 4.0 if low > 0 else -4.0
    estimate = replace(estimate, difference=difference, difference_low=low, difference_high=high, p_value=p_value)
    assert mark(column(results, "fvd"), estimate) == told


def test_p_value_stands_where_there_is_no_interval(results: Results) -> None:
    other = changed(results, "stg-a", "fvd", difference_low=math.nan, difference_high=math.nan, p_value=0.0123)
    assert "−11.3 (p = 0.012) ✓" in markdown(other)


def test_value_that_could_not_be_computed_is_a_dash_with_its_reason(results: Results) -> None:
    problem = "fvd needs 64 clips | got <3>"
    other = changed(results, "stg-a", "fvd", value=math.nan, difference=math.nan, problem=problem)
    text = markdown(other)
    assert "—(1)" in text
    assert "(1) Fréchet Video Distance: fvd needs 64 clips \\| got \\<3>." in text
    assert "nan" not in re.sub(r"\(NaN\)", "", text).lower()
    for writer in WRITERS.values():
        assert "nan" not in writer(run_tables(other)[0]).lower()


def test_missing_clips_and_scores_are_named(results: Results) -> None:
    missing = tuple(Missing(variant="stg-a", case=f"c{i}", seed=0, problem="NaN frames") for i in range(7))
    scores = results.scores.copy()
    scores.loc[3, "temporal_flickering"] = math.nan
    run = results.run.model_copy(update={"missing": missing})
    text = markdown(replace(results, run=run, scores=scores))
    assert "Missing: 7 of 36 clips. stg-a, case c0, seed 0 (NaN frames)" in text
    assert "and 2 more." in text
    row = scores.iloc[3]
    named = f"case {row.case}, seed {row.seed} (NaN)."
    assert "No Temporal Flickering score: 1 of 36 clips." in text
    assert named in text


def test_dimension_that_has_its_own_cases_is_not_called_missing_elsewhere(results: Results) -> None:
    scores = results.scores.copy()
    scores["tags"] = ["temporal_flickering" if i < 6 else "style" for i in range(len(scores))]
    scores.loc[6:, "temporal_flickering"] = math.nan
    run = results.run.model_copy(update={"score_by_tag": True})
    assert "No Temporal Flickering" not in markdown(replace(results, run=run, scores=scores))
    scores["temporal_flickering"] = math.nan
    assert "No Temporal Flickering score: 6 of 6 clips." in markdown(replace(results, run=run, scores=scores))


def test_metric_of_the_first_clips_only_is_not_called_missing_on_the_others(results: Results) -> None:
    scores = results.scores.copy()
    scores["temporal_flickering"] = scores["temporal_flickering"].where(scores.groupby("variant").cumcount() < 4)
    run = results.run.model_copy(update={"metric_clips": {"temporal_flickering": 4}})
    assert "No Temporal Flickering" not in markdown(replace(results, run=run, scores=scores))
    scores.loc[0, "temporal_flickering"] = math.nan
    assert "No Temporal Flickering score: 1 of 12 clips." in markdown(replace(results, run=run, scores=scores))


def test_clips_that_the_static_filter_leaves_out_are_counted_and_not_called_missing(results: Results) -> None:
    scores = results.scores.copy()
    scores["tags"] = ["temporal_flickering" if i < 6 else "style" for i in range(len(scores))]
    scores.loc[2:, "temporal_flickering"] = math.nan
    run = results.run.model_copy(update={"score_by_tag": True, "keep_static": {"temporal_flickering": 5}})
    text = markdown(replace(results, run=run, scores=scores))
    assert "Temporal Flickering counts the first 5 static clips of each case: 2 of 6 clips." in text
    assert "No Temporal Flickering" not in text


def test_one_variant_only_is_a_table_without_differences(tmp_path: Path, make_results: Callable[..., Results]) -> None:
    one = make_results(tmp_path, variants={"cfg": "cfg3"})
    assert len(run_tables(one)) == 1
    assert "One variant only: nothing is compared." in markdown(one)
    assert "**" not in markdown(one).split("\n", 1)[1], "nothing is best of one"


def test_different_n_is_named(results: Results) -> None:
    assert "| 12 (FVD 9) |" in re.sub(" +", " ", markdown(changed(results, "stg-a", "fvd", n=9)))


SPECIAL = st.text(st.sampled_from("ab<>&\"'|\\`*_[]{}$%#~^−é猫\n "), max_size=20)


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)


@given(title=SPECIAL, label=SPECIAL)
def test_text_survives_html_and_csv_as_it_is(title: str, label: str) -> None:
    table = Table("t", title, ("Variant", "Guidance"), ("X ↑",), (Row((label, label), (Cell("1.0"),)),))
    parser = Text()
    parser.feed(to_html(table))
    assert "".join(parser.found).count(label) >= (2 if label else 0)
    assert set(parser.tags) <= {
        "figure",
        "figcaption",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "small",
    }
    rows = list(csv.reader(io.StringIO(to_csv(table))))
    assert rows == [["Variant", "Guidance", "X"], [label, label, "1.0"]]


@given(title=SPECIAL, label=SPECIAL)
def test_markdown_table_keeps_its_shape_whatever_the_text(title: str, label: str) -> None:
    table = Table("t", title, ("Variant", "Guidance"), ("X ↑",), (Row((label, label), (Cell("1.0"),)),))
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 3
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line.replace("\\\\", ""))) >= 4


@given(st.floats(-1e6, 1e6), st.integers(0, 4), st.sampled_from([1.0, 100.0]))
def test_printed_number_is_the_scaled_value_rounded(value: float, digits: int, scale: float) -> None:
    of = Column(name="m", title="M", short="M", higher_is_better=True, scale=scale, digits=digits, signature="",
                note="", kind="clip")  # fmt: skip
    text = number(of, value, signed=True)
    assert abs(float(text) - value * scale) <= 0.5 * 10.0**-digits * (1 + 1e-9) + 1e-9
    assert float(text) != 0 or text[0] not in "+-", "no signed zero"
    assert number(of, math.nan) == "—"


def test_estimates_of_a_saved_run_print_the_same(tmp_path: Path, results: Results) -> None:
    from stg_eval.storage import results as contract

    contract.save(results)
    assert markdown(contract.load(results.path)) == markdown(results)


def test_unknown_estimate_is_a_dash(results: Results) -> None:
    kept = tuple(e for e in results.estimates if (e.variant, e.metric) != ("stg-a", "fvd"))
    assert isinstance(results.estimate("stg-a", "fvd"), Estimate)
    assert "Fréchet Video Distance: not scored." in markdown(replace(results, estimates=kept))


@pytest.mark.parametrize(("room", "on_its_side"), [(200, False), (70, True)])
def test_table_too_wide_for_the_terminal_stands_on_its_side_with_every_digit(
    results: Results, monkeypatch: pytest.MonkeyPatch, room: int, on_its_side: bool
) -> None:
    results = replace(results, run=results.run.model_copy(update={"variants": results.run.variants[:2]}))
    piped = _rows(markdown(results))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(room))
    shown = _rows(markdown(results))
    assert (shown != piped) == on_its_side
    assert max(map(len, shown)) <= room
    assert sorted(NUMBER.findall("\n".join(shown))) == sorted(NUMBER.findall("\n".join(piped)))
    assert all(column.short in "\n".join(shown) for column in results.columns)


@pytest.mark.parametrize("room", [60, 80, 100])
def test_every_line_fits_the_terminal_and_names_what_it_leaves_out(
    results: Results, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    many = replace(results, columns=tuple(replace(c, name=f"{c.name}{i}") for i in range(3) for c in results.columns))
    estimates = tuple(replace(e, metric=f"{e.metric}{i}") for i in range(3) for e in results.estimates)
    scores = results.scores.rename(columns={c.name: f"{c.name}0" for c in results.columns})
    many = replace(many, estimates=estimates, scores=scores)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(room))
    shown = markdown(many)
    assert max(map(len, _rows(shown))) <= max(room, width(run_tables(many)[0].first(1)))
    assert ("Not shown: " in shown) == (room < 100)  # at 100 they stand one below the other
    wide = markdown(many, wide=True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert wide == markdown(many)


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_turning_a_table_twice_gives_its_cells_back(results: Results) -> None:
    for table in run_tables(results):
        assert [row.cells for row in turned(turned(table)).rows] == [row.cells for row in table.rows]
