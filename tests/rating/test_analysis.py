"""The figures of a study: against published values, and against sums done by hand."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from stg_eval.rating import analysis
from stg_eval.rating.aspects import CHOICES, NAMES
from stg_eval.rating.export import export, summarise
from stg_eval.storage import results as storage
from stg_eval.types import StgEvalError

pytest.importorskip("krippendorff", reason="needs the extra rate")

PUBLISHED = """\
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""
"""Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units."""


def people(rows: dict[tuple[str, str, str], int], aspect: str = "likeness") -> pd.DataFrame:
    """Ratings by (rater, case, variant)."""
    table = pd.DataFrame(
        [(r, c, v, x) for (r, c, v), x in rows.items()], columns=["rater", "case", "variant", "rating"]
    )
    return table.assign(seed=0, aspect=aspect, anchor="", position=table.groupby("rater").cumcount(), seconds=5.0)


def ordinal_alpha(units: list[list[float]]) -> float:
    """Alpha by its definition: observed over expected disagreement, ordinal distances, all pairs of values."""
    units = [[x for x in unit if not math.isnan(x)] for unit in units]
    units = [unit for unit in units if len(unit) > 1]
    values = sorted({x for unit in units for x in unit})
    n = {v: sum(unit.count(v) for unit in units) for v in values}

    def distance(a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        return (sum(n[v] for v in values if low <= v <= high) - (n[low] + n[high]) / 2) ** 2

    observed = sum(distance(a, b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2))
    everything = [x for unit in units for x in unit]
    expected = sum(distance(a, b) for a, b in itertools.permutations(everything, 2)) / (len(everything) - 1)
    return 1 - observed / expected


def test_alpha_equals_the_published_value() -> None:
    rows = {
        (f"r{i}", f"c{j:02d}", "cfg"): int(x)
        for i, line in enumerate(PUBLISHED.splitlines())
        for j, x in enumerate(line.split())
        if x != "."
    }
    alpha = analysis.reliability(people(rows), "rating")
    assert round(alpha["likeness"], 3) == 0.815
    assert math.isnan(alpha["video_quality"])


def test_alpha_equals_its_definition_on_random_data() -> None:
    rng = np.random.default_rng(0)
    rows = {(f"r{i}", f"c{j}", v): int(rng.integers(1, 6)) for i in range(5) for j in range(6) for v in ("cfg", "stg")}
    units = [[rows[f"r{i}", f"c{j}", v] for i in range(5)] for j in range(6) for v in ("cfg", "stg")]
    assert analysis.reliability(people(rows), "rating")["likeness"] == pytest.approx(ordinal_alpha(units), abs=1e-12)


def test_means_and_differences_are_paired_within_raters() -> None:
    rows = {(f"r{i}", f"c{j}", "cfg"): 1 + (i + j) % 4 for i in range(3) for j in range(8)}
    rows |= {(r, c, "stg"): x + 1 for (r, c, _), x in rows.items()}
    table = analysis.means(people(rows), "cfg")
    stg = table[(table.aspect == "likeness") & (table.variant == "stg")].iloc[0]
    cfg = table[(table.aspect == "likeness") & (table.variant == "cfg")].iloc[0]
    assert stg.difference == stg.difference_low == stg.difference_high == 1
    assert stg["mean"] == cfg["mean"] + 1
    assert stg.n == 24


def test_the_metric_that_people_follow_comes_first() -> None:
    rng = np.random.default_rng(1)
    clips = [(j, v) for j in range(20) for v in ("cfg", "stg")]
    rows = {(f"r{i}", f"c{j}", v): 1 + (j + (v == "stg")) % 5 for i in range(3) for j, v in clips}
    scores = pd.DataFrame([(f"c{j}", 0, v) for j, v in clips], columns=["case", "seed", "variant"])
    scores["noise"] = rng.normal(size=40)
    scores["good"] = [1 + (j + (v == "stg")) % 5 for j, v in clips]
    found = analysis.agreement(people(rows), "rating", scores, ["noise", "good"])
    best = found[found.aspect == "likeness"].iloc[0]
    assert (best.metric, round(best.correlation, 6), best.n) == ("good", 1, 40)


def test_fifty_simulated_raters_finish_and_the_figure_is_right(made_study, made_run) -> None:
    study, _ = made_study(clips=12, raters=50, anchors=True)
    clips, expected = study.clips(), {}
    rng = np.random.default_rng(0)
    for rater in study.raters():
        while trial := study.next_trial(rater):
            clip = clips[trial.clips[0]]
            answer = {name: int(rng.integers(2, 5) + (clip.variant == "stg")) for name in NAMES}
            if clip.anchor:
                answer |= {"video_quality": 1, "motion_quality": 1}
            else:
                for name, value in answer.items():
                    expected.setdefault((name, clip.variant), []).append(value)
            study.answer(trial, answer, 3.0)
    results, _ = made_run(12)
    figures = summarise(study, results).figures.set_index(["aspect", "variant"])
    for where, values in expected.items():
        assert len(values) == 600
        assert f"{figures.loc[where, 'mean']:.2f}" == f"{sum(values) / 600:.2f}"
    checks = summarise(study, results).raters
    assert (checks["anchors"] == 2).all()
    assert not checks["anchors_failed"].any()


def test_a_careless_rater_is_named(made_study, made_run) -> None:
    study, _ = made_study(raters=2, anchors=True)
    for rater in study.raters():
        while trial := study.next_trial(rater):
            careful = rater.name == "rater-01"
            altered = study.clips()[trial.clips[0]].anchor
            answer = {name: (1 if altered else 3 + i % 3) if careful else 5 for i, name in enumerate(NAMES)}
            study.answer(trial, answer, 3.0)
    remarks = summarise(study, made_run()[0]).raters.set_index("rater")["remark"]
    assert remarks["rater-01"] == ""
    assert "anchor" in remarks["rater-02"]
    assert "same answer" in remarks["rater-02"]


def test_anchors_are_in_no_figure(made_study, made_run) -> None:
    from stg_eval.reports.figures import read_ratings

    study, _ = made_study(raters=2, anchors=True)
    for rater in study.raters():
        while trial := study.next_trial(rater):
            anchor = bool(study.clips()[trial.clips[0]].anchor)
            study.answer(trial, dict.fromkeys(NAMES, 1 if anchor else 4), 3.0)
    results, _ = made_run()
    figures = summarise(study, results).figures
    assert (figures["mean"] == 4).all()
    from dataclasses import replace

    export(study, replace(results, path=study.path.parent))
    assert set(read_ratings(study.path.parent / "ratings.csv")["rating"]) == {4}


def test_pairs_are_drawn_and_laid_out_in_the_report(made_study, made_run, run_cli, tmp_path) -> None:
    from dataclasses import replace

    study, _ = made_study(raters=2, mode="pair", anchors=True)
    for rater in study.raters():
        while trial := study.next_trial(rater):
            study.answer(trial, dict.fromkeys(NAMES, "left"), 3.0)
    results = replace(made_run()[0], path=tmp_path / "run")
    storage.save(results)
    export(study, results)
    assert run_cli("report", results.path).code == 0
    assert list((results.path / "report" / "figures").glob("*-preferences.svg"))
    (table,) = (results.path / "report" / "tables").glob("*-people.md")
    assert "stg wins" in table.read_text()
    (results.path / "rating.json").write_text('{"figures": []}')
    damaged = run_cli("report", results.path)
    assert damaged.code == 2
    assert "rate export" in damaged.err


def test_preferences_count_for_the_variant_on_whichever_side_it_was(made_study, made_run) -> None:
    study, _ = made_study(raters=4, mode="pair")
    clips = study.clips()
    for rater in study.raters():
        while trial := study.next_trial(rater):
            side = CHOICES[0] if clips[trial.clips[0]].variant == "stg" else CHOICES[2]
            study.answer(trial, dict.fromkeys(NAMES, side) | {"likeness": "equal"}, 3.0)
    people_ = analysis.preferences(study)
    assert set(people_["side"]) == {"left", "right"}
    rates = analysis.preference_rates(people_).set_index("aspect")
    assert rates.loc["motion_quality", ["wins", "equal", "losses", "net"]].tolist() == [1, 0, 0, 1]
    assert rates.loc["likeness", ["wins", "equal", "losses", "net"]].tolist() == [0, 1, 0, 0]


def test_export_is_read_back_equal_and_drawn_in_the_report(made_study, made_run, tmp_path, run_cli) -> None:
    from dataclasses import replace

    study, _ = made_study(raters=3)
    with pytest.raises(StgEvalError, match="no clip has been rated"):
        summarise(study, made_run()[0])
    for i, rater in enumerate(study.raters()):
        while trial := study.next_trial(rater):
            study.answer(trial, dict.fromkeys(NAMES, 2 + i), 3.0)
    results = replace(made_run()[0], path=tmp_path / "run")
    storage.save(results)
    paths = export(study, results)
    table = pd.read_csv(paths[0], keep_default_na=False, dtype={"case": str})
    pd.testing.assert_frame_equal(table, pd.read_parquet(paths[1]), check_dtype=False)
    pd.testing.assert_frame_equal(table, analysis.ratings(study), check_dtype=False)
    assert json.loads(paths[2].read_text())["figures"][0]["mean"] == 3
    assert run_cli("report", results.path).code == 0
    assert list((results.path / "report" / "figures").glob("*-ratings.png"))
    (people_,) = (results.path / "report" / "tables").glob("*-people.md")
    assert "Subjective likeness" in people_.read_text()
    assert "Human study" in (results.path / "report" / "index.html").read_text()
    shown = run_cli("rate", "export", results.path)
    assert shown.code == 0
    assert "Krippendorff" in shown.out
