"""Recipes: the paper's rows, with every setting either stated or marked as our choice."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial, partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stg_eval import weights
from stg_eval.metrics import registry
from stg_eval.pipeline import checkpoints, reproduce
from stg_eval.reports.paper import paper, paper_tables
from stg_eval.reports.writers.markdown import to_markdown
from stg_eval.storage import results
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.types import Guidance, StgEvalError

RECIPES = {name: reproduce.recipe(name) for name in reproduce.names()}
TABLES = [number if number in (1, 2, 5) else pytest.param(number, marks=pytest.mark.sweep) for number in range(1, 6)]
"""Tables 1, 2 and 5 run every model; what 3 and 4 add are other methods on the same ones."""


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


def test_a_row_takes_each_metric_from_the_run_that_has_it(tmp_path: Path, make_record: Callable[..., Any]) -> None:
    """Table 2's FVD and IS come from UCF-101, its VBench dimensions from another suite of images."""
    nan = float("nan")

    def result(run: reproduce.Run, value: float) -> Results:
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
        fields = {"model": run.model, "suite": run.suite.name, "baseline": run.suite.baseline}
        record = make_record({g: g for g in run.guidance}, **fields)
        return Results(tmp_path / run.suite.name, record, columns, cells, pd.DataFrame())

    ucf, i2v = RECIPES["table2"].runs
    (table,) = paper_tables([result(ucf, 111.0), result(i2v, 0.555)], numbers=[2])
    text = to_markdown(table)
    lines = [[cell.strip(" *") for cell in line.split("|")[3:-1]] for line in text.splitlines() if line.startswith("|")]
    assert [line[1:] for line in lines if line[0] == "ours"] == [["111.000"] * 2 + ["0.555"] * 4] * 2
    (verdicts,) = (line[1:] for line in lines if line[0] == "verdict")
    assert verdicts == ["not reproduced", *["reproduced"] * 5], "a larger FVD is worse, and the paper's fell"


UCF_AND_VBENCH = 3 + 1


@dataclass(frozen=True)
class Reproduced:
    """A finished `stg-eval reproduce`."""

    code: int
    text: str
    problems: str
    folder: Path
    reasons: dict[tuple[str, str], str]
    """(guidance, metric) without a value -> why."""
    made: Counter[tuple[str, str]]
    """(model, guidance) -> clips that the store gained."""


@pytest.fixture(scope="module")
def small_networks(
    tmp_path_factory: pytest.TempPathFactory,
    random_weights: dict[str, weights.Checkpoint],
    small_videomae: tuple[dict[str, Any], dict[str, int]],
) -> Iterator[dict[str, Path]]:
    """Random weights of every metric in the official file formats; networks that would take minutes are made small."""
    import torch
    from pyiqa.archs.musiq_arch import MUSIQ
    from transformers import VideoMAEConfig

    from stg_eval.metrics import c3d, videomae

    class SmallC3D(c3d.C3D):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            for i, name in enumerate(("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")):
                setattr(self, f"conv{name}", torch.nn.Conv3d(4 if i else 3, 4, kernel_size=3, padding=1))
            self.fc6, self.fc7, self.fc8 = torch.nn.Linear(64, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 101)

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(1)
    small_musiq = partialmethod(MUSIQ.__init__, hidden_size=48, mlp_dim=48, num_layers=1, longer_side_lengths=[32, 64])
    checkpoint, sizes = small_videomae
    parameters = {"weight": "W", "bias": "b"}
    arrays = {
        f"{layer}/{parameters[kind]}": value.detach().numpy()
        for name, value in SmallC3D().named_parameters()
        for layer, kind in [name.split(".")]
    }
    torch.save(checkpoint, folder / "videomae.pth")
    np.savez(folder / "c3d.npz", **arrays)
    np.savez(folder / "mean.npz", mean=np.full((1, 3, 16, 128, 171), 100, np.float32))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MUSIQ, "__init__", small_musiq)
        torch.save(MUSIQ(pretrained=False).state_dict(), folder / "musiq.pth")
        patch.setattr(c3d, "C3D", SmallC3D)
        giant = VideoMAEConfig(**(videomae.GIANT.to_diff_dict() | sizes))
        patch.setattr(videomae, "load_network", partial(videomae.load_network, config=giant))
        for module in ("dynamic_degree", "static_filter"):
            patch.setattr(f"stg_eval.metrics.vbench.{module}.ITERATIONS", 1)
        own = {"musiq-spaq": "musiq", "videomae-g-ssv2": "videomae", "c3d-ucf101": "c3d", "c3d-mean": "mean"}
        files = {name: checkpoint.path for name, checkpoint in random_weights.items()}
        files |= {name: next(folder.glob(f"{stem}.*")) for name, stem in own.items()}
        patch.setattr("stg_eval.weights.local.expected_digest", lambda row, path: None)  # random files have none
        patch.setitem(registry.METRICS, "fvd", replace(registry.METRICS["fvd"], min_clips=3))
        yield files
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def reproduced(
    tmp_path_factory: pytest.TempPathFactory,
    run_cli: Callable[..., Any],
    ucf101_at: Callable[..., Path],
    vbench_i2v_at: Callable[..., Path],
    small_networks: dict[str, Path],
) -> Iterator[Callable[[str], Reproduced]]:
    """A table of the paper, from suite to page, by the real models and metrics with random weights. Made once; Table 2
    comes before all others, as its clips are theirs too."""
    home = tmp_path_factory.mktemp("paper")
    ucf101_at(home / "data" / "ucf101", classes=2)
    vbench_i2v_at(home / "data" / "vbench-i2v", subjects=2, backgrounds=1)
    for name, path in small_networks.items():
        place = home / "weights" / name / Path(checkpoints.named(name).file).name
        place.parent.mkdir(parents=True)
        place.symlink_to(path)

    @cache
    def make(table: str) -> Reproduced:
        if table != "table2":
            make("table2")
        models = dict.fromkeys(run.model for run in RECIPES[table].runs)
        before = _clips(home / "store")
        answer = run_cli(
            # one clip a row, on UCF-101 three; of Open-Sora in Table 1 five, the fewest that have all dimensions
            *("reproduce", table, "--fraction", 0.002 if table == "table1" else 0.0003, "--device", "cpu"),
            *(part for model in models for part in ("--model-override", f"tiny-{model}")),
            *("--output", home / table, "--store", home / "store"),
        )
        assert answer.code < 2, answer.err
        runs = [results.load(home / table / f"{run.suite.name}-{run.model}") for run in RECIPES[table].runs]
        reasons = {(e.variant, e.metric): e.problem for run in runs for e in run.estimates if e.problem}
        return Reproduced(*answer, home / table, reasons, _clips(home / "store") - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STG_EVAL_CACHE", str(home))
        yield make


def _clips(store: Path) -> Counter[tuple[str, str]]:
    if not store.exists():
        return Counter()
    database = sqlite3.connect(store / "store.sqlite")
    requests = [json.loads(text) for (text,) in database.execute("SELECT request FROM clips")]
    database.close()
    return Counter((request["model"], request["guidance"]) for request in requests)


def _rows(text: str) -> list[list[str]]:
    """The cells of a printed table, without emphasis, notes and typographic minus."""
    lines = [line.replace("\u2212", "-").replace("*", "") for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", TABLES)
def test_the_paper_s_table_is_printed_beside_ours(number: int, reproduced: Callable[[str], Reproduced]) -> None:
    done, layout = reproduced(f"table{number}"), paper()["tables"][number]
    rows = iter(_rows(done.text))
    for row in layout["rows"]:
        published, ours, gap = next(rows), next(rows), next(rows)
        assert (published[1:3], ours[2], gap[2]) == ([row["method"], "published"], "ours", "ours - published")
        for metric, theirs, cell, mine, difference in zip(
            layout["metrics"], row["published"], published[3:], ours[3:], gap[3:], strict=True
        ):
            if theirs is None:
                assert (cell, mine, difference) == ("—", "—", "—")
                continue
            assert float(cell) == theirs
            if mine.startswith("—("):
                assert difference == "—"
                assert (row["guidance"], metric) in done.reasons
                assert metric == "is" or row["model"] == "opensora", "one clip of it is of one dimension"
            else:
                value, digits = float(mine.split(" ")[0]), len(mine.split(" ")[0].partition(".")[2])
                assert float(difference) == pytest.approx(value - theirs, abs=10.0**-digits)
        if "against" in row:
            claims, differences, verdicts = next(rows), next(rows), next(rows)
            assert [line[2] for line in (claims, differences, verdicts)] == [
                f"minus {row['against']}, published",
                f"minus {row['against']}, ours",
                "verdict",
            ]
            assert set(verdicts[3:]) <= {"random weights", "no claim", "—"}
    assert next(rows, None) is None
    assert done.text.count("weights `random-weights(seed=0)`") == len(RECIPES[f"table{number}"].runs)
    assert "reproduced" not in done.text.lower(), "nothing is claimed of random weights"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", TABLES)
def test_what_is_missing_is_the_exit_code_s_reason_and_the_page_is_written(
    number: int, reproduced: Callable[[str], Reproduced]
) -> None:
    done = reproduced(f"table{number}")
    assert done.code == bool(done.reasons)
    lines = [f"missing: {variant}, {metric}: {reason}" for (variant, metric), reason in done.reasons.items()]
    assert set(lines[:10]) <= set(done.problems.splitlines())
    few = {reason for (_, metric), reason in done.reasons.items() if metric == "is"}
    scores_ucf101 = any(run.suite.name == "ucf101-i2v" for run in RECIPES[f"table{number}"].runs)
    assert few == ({"IS needs at least 256 clips, and 3 have features"} if scores_ucf101 else set())
    page = done.folder / "report" / "index.html"
    assert f"Page: {page}" in done.text
    assert f"Table {number} of the paper" in page.read_text(encoding="utf-8")


@pytest.mark.timeout(900)
def test_tables_2_and_5_share_svd_s_clips(reproduced: Callable[[str], Reproduced]) -> None:
    cfg, stg = "cfg3", "cfg3+stg-a[8]s2t2"
    assert reproduced("table2").made == {("svd", cfg): UCF_AND_VBENCH, ("svd", stg): UCF_AND_VBENCH}
    assert reproduced("table5").made == {("svd", f"{stg}+orth"): UCF_AND_VBENCH}


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_tables_3_and_4_make_only_their_own_clips(reproduced: Callable[[str], Reproduced]) -> None:
    assert reproduced("table4").made == {("svd", "cfg3+stg-a[8]s2"): UCF_AND_VBENCH}
    own = {guidance: n for (model, guidance), n in reproduced("table3").made.items() if model == "svd"}
    assert own == {"cfg3+stg-r[8]s1t1": UCF_AND_VBENCH}


@pytest.mark.timeout(900)
def test_signatures_carry_the_digests_of_the_weights_in_use(
    reproduced: Callable[[str], Reproduced], small_networks: dict[str, Path]
) -> None:
    published = {row.sha256[:8] for row in checkpoints.catalogue().values() if row.sha256}
    found = {}
    for run in RECIPES["table2"].runs:
        result = results.load(reproduced("table2").folder / f"{run.suite.name}-svd")
        assert result.run.weights == "random-weights(seed=0)"
        found |= {column.name: column.signature for column in result.columns}
    for metric, signature in found.items():
        for row in registry.card(metric).weights:
            digest = hashlib.sha256(small_networks[row.name].read_bytes()).hexdigest()[:8]
            assert digest in signature
            assert digest not in published


def test_a_dry_run_of_the_full_table_2_costs_what_was_counted(tmp_path: Path) -> None:
    """SVD: 80.0 TFLOP a pass of 25 frames at 576x1024; CFG two passes in each of 25 steps; CFG and STG with the shared
    prefix 1.587 of that. In a process of its own, whose memory its parent measures: a small one, since a process counts
    the memory of the one it was forked from."""
    command = [
        sys.executable,
        "-m",
        "stg_eval.cli",
        "reproduce",
        "table2",
        "--dry-run",
        "--store",
        str(tmp_path / "no"),
    ]
    code = (
        f"import resource, subprocess; subprocess.run({command!r}, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    environment = os.environ | {"STG_EVAL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    *lines, kilobytes = done.stdout.splitlines()
    assert int(kilobytes) < 500_000
    counts = [row for row in _rows("\n".join(lines)) if row[0].startswith("`")]
    assert [(row[0], row[1], row[3]) for row in counts] == [
        (f"`{guidance}`", n, n) for n in ("10,000", "1,775") for guidance in ("cfg3", "cfg3+stg-a[8]s2t2")
    ]
    for cfg, stg in (counts[:2], counts[2:]):
        n = int(cfg[1].replace(",", ""))
        assert float(cfg[5].replace(",", "")) == pytest.approx(80.0 * 2 * 25 * n, rel=0.02)
        assert float(stg[5].replace(",", "")) == pytest.approx(1.587 * 80.0 * 2 * 25 * n, rel=0.02)
    missing = [line for line in lines if line.startswith("- Missing: ")]
    assert any("`stg-eval data fetch ucf101`" in line for line in missing)
    assert any("`stg-eval weights fetch svd`" in line for line in missing)
