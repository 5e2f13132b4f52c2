"""Export: the names and JSON that VBench and EvalCrafter read, and every departure from them said."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stg_eval import suites
from stg_eval.pipeline import export
from stg_eval.storage.record import Missing
from stg_eval.storage.results import Column, Results
from stg_eval.types import Case, StgEvalError

FIVE = ("imaging_quality", "aesthetic_quality", "motion_smoothness", "dynamic_degree", "temporal_flickering")
MakeRun = Callable[..., Results]


@pytest.fixture
def make_run(tmp_path: Path, make_video: Callable[..., Path], make_record: Callable[..., Any]) -> MakeRun:
    """A finished run in which every clip is the same small video."""

    def make(pairs: Sequence[tuple[Case, int]], variants: Sequence[str] = ("cfg",), **scores: float) -> Results:
        make_video("clip.mp4", num_frames=4, folder=tmp_path / "store" / "clips")
        rows = [
            {
                "variant": v,
                "case": c.id,
                "prompt": c.prompt,
                "seed": seed,
                "key": "k",
                "file": "clips/clip.mp4",
                **scores,
            }
            for v in variants
            for c, seed in pairs
        ]
        columns = tuple(
            Column(
                name=name,
                title=name,
                short=name,
                higher_is_better=True,
                scale=1.0,
                digits=3,
                signature=f"{name}|vbench0.1.5|v1",
                note="",
                kind="clip",
            )
            for name in scores
        )
        run = make_record(dict.fromkeys(variants, "cfg7"), store=str(tmp_path / "store"), expected=len(rows))
        return Results(tmp_path / "run", run, columns, (), pd.DataFrame(rows))

    return make


def cases(*prompts: str) -> list[tuple[Case, int]]:
    return [(Case(id=f"{i:04d}", prompt=prompt), seed) for i, prompt in enumerate(prompts) for seed in (7, 8)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_index_is_the_seed_counted_from_the_run_s_first(make_run: MakeRun, tmp_path: Path) -> None:
    (out,) = export.export_vbench(make_run(cases("a cat", "a dog")), tmp_path / "out")
    assert names(out.folder) == ["a cat-0.mp4", "a cat-1.mp4", "a dog-0.mp4", "a dog-1.mp4"]
    assert out.videos == 4


def test_each_variant_has_a_folder_without_glob_characters(make_run: MakeRun, tmp_path: Path) -> None:
    out = export.export_vbench(make_run(cases("a cat"), ["cfg3", "cfg3+stg-a[8]s2t2"]), tmp_path / "out")
    assert [one.folder.name for one in out] == ["cfg3", "cfg3+stg-a_8_s2t2"]


def test_official_vbench_finds_every_video_and_evaluates_the_folder(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vbench = pytest.importorskip("vbench")
    import torch

    suite = suites.load("vbench-t2v")
    run = make_run(list(suites.samples(suite, suites.open_dataset(suite), seeds=5)), **dict.fromkeys(FIVE, 0.5))
    (out,) = export.export_vbench(run, tmp_path / "out")
    assert out.videos == 240 * 5

    info = Path(vbench.__file__).parent / "VBench_full_info.json"
    official = vbench.VBench(torch.device("cpu"), str(info), str(tmp_path / "official"))
    official.build_full_info_json(str(out.folder), "all", list(FIVE))
    official.evaluate(str(out.folder), "one", dimension_list=["temporal_flickering"], local=True)
    printed = "".join(capfd.readouterr())
    assert "WARNING" not in printed
    assert "missing" not in printed.lower()

    theirs = json.loads((tmp_path / "official" / "one_eval_results.json").read_text())["temporal_flickering"]
    assert len(theirs[1]) == 75 * 5
    ours = json.loads((tmp_path / "out" / "cfg_eval_results.json").read_text())
    assert set(ours) == set(FIVE)
    assert {v["video_path"] for v in theirs[1]} <= {v["video_path"] for v in ours["temporal_flickering"][1]}


def test_results_have_vbench_s_form_and_scale(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cases("a cat"), imaging_quality=0.625, dynamic_degree=1.0, motion_smoothness=0.75)
    run.scores.loc[1, "motion_smoothness"] = float("nan")
    export.export_vbench(run, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "cfg_eval_results.json").read_text())
    first, second = (str(tmp_path / "out" / "cfg" / f"a cat-{i}.mp4") for i in (0, 1))
    assert found["imaging_quality"] == [
        0.625,
        [{"video_path": first, "video_results": 62.5}, {"video_path": second, "video_results": 62.5}],
    ]
    assert found["dynamic_degree"][1][0]["video_results"] is True
    assert found["motion_smoothness"] == [0.75, [{"video_path": first, "video_results": 0.75}]]


@pytest.mark.parametrize("prompt", ["x" * 300, "ü" * 150, "either/or", "a\nb", "../../etc", "\u65e5\u672c" * 60])
def test_a_prompt_no_file_name_can_hold_is_shortened_and_said(make_run: MakeRun, tmp_path: Path, prompt: str) -> None:
    run = make_run(cases(prompt, prompt + "."))
    (out,) = export.export_vbench(run, tmp_path / "out")
    files = names(out.folder)
    assert len(files) == 4
    assert all(len(name.encode()) <= 255 for name in files)
    assert any("2 prompts fit no file name" in line for line in out.problems)
    listed = json.loads((tmp_path / "out" / "cfg_prompts.json").read_text())
    assert set(listed) == set(files)
    assert set(listed.values()) == {prompt, prompt + "."}


def test_prompts_that_differ_in_case_are_told(make_run: MakeRun, tmp_path: Path) -> None:
    (out,) = export.export_vbench(make_run(cases("A fantasy landscape", "a fantasy landscape")), tmp_path / "out")
    assert len(names(out.folder)) == 4
    assert any("differ only in case" in line for line in out.problems)


def test_on_a_disk_that_ignores_case_no_video_is_overwritten(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_ignores_case", lambda directory: True)
    (out,) = export.export_vbench(make_run(cases("A fantasy landscape", "a fantasy landscape")), tmp_path / "out")
    assert names(out.folder) == ["A fantasy landscape-0.mp4", "A fantasy landscape-1.mp4"]
    assert names(tmp_path / "out" / "cfg.2") == ["a fantasy landscape-0.mp4", "a fantasy landscape-1.mp4"]
    assert any("cfg.2" in line for line in out.problems)


def test_cases_with_one_prompt_keep_all_their_videos(make_run: MakeRun, tmp_path: Path) -> None:
    (out,) = export.export_vbench(make_run(cases("a cat", "a cat")), tmp_path / "out")
    assert names(out.folder) == [f"a cat-{i}.mp4" for i in range(4)]
    assert any("2 cases show 'a cat'" in line for line in out.problems)


def test_images_without_a_prompt_go_by_their_file_name(make_run: MakeRun, tmp_path: Path) -> None:
    (out,) = export.export_vbench(
        make_run([(Case(id="lake.png", image="lake.png", image_sha256="0"), 0)]), tmp_path / "out"
    )
    assert names(out.folder) == ["lake-0.mp4"]


def test_missing_clips_and_foreign_files_are_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cases("a cat", "a dog"))
    run.scores.loc[1, "file"] = ""
    lost = (Missing(variant="cfg", case="0000", seed=8, problem="NaN frames"),)
    run = replace(run, run=run.run.model_copy(update={"missing": lost}))
    (tmp_path / "out" / "cfg").mkdir(parents=True)
    (tmp_path / "out" / "cfg" / "old-0.mp4").touch()
    (tmp_path / "out" / "cfg" / ".DS_Store").touch()
    (out,) = export.export_vbench(run, tmp_path / "out")
    assert "a cat-1.mp4" not in names(out.folder)
    assert any("0000, seed 8, is missing: NaN frames" in line for line in out.problems)
    assert any("1 other files, such as 'old-0.mp4'" in line for line in out.problems)


def test_exporting_again_completes_and_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cases("a cat", "a dog"), temporal_flickering=0.5)
    (first,) = export.export_vbench(run, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (first.folder / "a cat-0.mp4").unlink()
    (first.folder / "a dog-0.mp4").write_bytes(b"cut off")
    export.export_vbench(run, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_evalcrafter_takes_its_own_numbers_and_one_video_a_prompt(make_run: MakeRun, tmp_path: Path) -> None:
    pairs = [(Case(id=f"{n:04d}", prompt=f"prompt {n}"), seed) for n in (699, 3) for seed in (0, 1)]
    (out,) = export.export_evalcrafter(make_run(pairs), tmp_path / "out")
    assert names(out.folder) == ["0003.mp4", "0699.mp4"]
    listed = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert listed == {"0003": {"prompt": "prompt 3", "seed": 0}, "0699": {"prompt": "prompt 699", "seed": 0}}
    assert any("2 further ones" in line for line in out.problems)
    assert any("698 of EvalCrafter's 700" in line for line in out.problems)


def test_other_cases_are_numbered_in_the_order_of_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    pairs = [(Case(id=name, prompt=name), 0) for name in ("b", "a")]
    export.export_evalcrafter(make_run(pairs), tmp_path / "out")
    listed = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert [entry["prompt"] for entry in listed.values()] == ["b", "a"]


def test_a_run_without_videos_or_with_lost_ones_says_what_to_do(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(cases("a cat"))
    with pytest.raises(StgEvalError, match="no videos to export"):
        export.export_vbench(replace(run, scores=run.scores.assign(file="")), tmp_path / "out")
    (tmp_path / "store" / "clips" / "clip.mp4").unlink()
    with pytest.raises(StgEvalError, match="is gone"):
        export.export_evalcrafter(run, tmp_path / "out")


def test_an_unwritable_folder_is_one_clear_line(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StgEvalError, match="cannot write"):
        export.export_vbench(make_run(cases("a cat")), tmp_path / "out")


PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=60)
@given(st.sets(PROMPTS, min_size=1, max_size=4), st.integers(0, 24))
@example({"a/b", "a\\b", "a_b", "a\nb", "..", ".", ".a", "x" * 300, "x" * 301, "é" * 200, "\0"}, 0)
def test_any_prompt_has_a_file_name_of_its_own_that_a_disk_takes(prompts: set[str], index: int) -> None:
    names = [export.vbench_name(prompt, index)[0] for prompt in prompts]
    assert len(set(names)) == len(prompts)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).write_text(name, encoding="utf-8")
        assert {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()} == {n: n for n in names}
