"""Someone's VBench results become a run: shown, totalled, compared with ours; what they are not is said."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stg_eval.metrics import registry
from stg_eval.metrics.vbench.totals import QUALITY, SEMANTIC
from stg_eval.pipeline import export
from stg_eval.pipeline.totals import value
from stg_eval.storage import results
from stg_eval.suites import load, open_dataset

SUITE = load("vbench-t2v-full")
DIMENSIONS = [*QUALITY, *SEMANTIC]


def theirs(shift: float = 0.0, samples: int = 2, dimensions: list[str] = DIMENSIONS) -> dict[str, Any]:
    """VBench's results for the first twelve prompts of each dimension, in its own units."""
    rng = np.random.default_rng(0)
    prompts: dict[str, list[str]] = {name: [] for name in dimensions}
    for case in open_dataset(SUITE).cases():
        for name in {*case.tags} & {*dimensions}:
            prompts[name].append(case.prompt)
    out: dict[str, Any] = {}
    for name in dimensions:
        videos = []
        for prompt in sorted(prompts[name])[:12]:
            for index in range(samples):
                score: Any = 0.5 + 0.1 * rng.random() + shift
                score = (
                    100 * score
                    if name == "imaging_quality"
                    else bool(rng.random() < 0.5)
                    if name == "dynamic_degree"
                    else score
                )
                videos.append({"video_path": f"videos/{prompt}-{index}.mp4", "video_results": score})
        scale = 100 if name == "imaging_quality" else 1
        out[name] = [float(np.mean([v["video_results"] for v in videos])) / scale, videos]
    return out


def write(path: Path, found: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(found))
    return path


def test_all_dimensions_come_with_the_leaderboards_totals(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    file = write(tmp_path / "model_eval_results.json", theirs())
    answer = run_cli("import", file, "--output", tmp_path / "run", "--variant", "theirs")
    assert (answer.code, answer.err) == (0, "")
    assert "Total" in answer.out
    found = results.load(tmp_path / "run")
    means = {name: mean for name, (mean, _) in theirs().items()}
    for name, mean in means.items():
        cell = found.estimate("theirs", name)
        assert cell is not None
        assert (cell.value, cell.n) == (pytest.approx(mean), 24)
        assert found.wanted(name).sum() == 24
    for name in ("vbench_total", "vbench_quality", "vbench_semantic"):
        cell = found.estimate("theirs", name)
        assert cell is not None
        assert cell.value == pytest.approx(value(registry.card(name), means))
        assert cell.low < cell.value < cell.high
    cases = {case.id: case.prompt for case in open_dataset(SUITE).cases()}
    assert (found.scores["case"].map(cases) == found.scores["prompt"]).all()
    assert all("|imported|" in column.signature for column in found.columns if column.kind == "clip")
    for verb in ("show", "report"):
        assert run_cli(verb, tmp_path / "run").code == 0


def test_a_submission_in_parts_is_the_same_run(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    whole = write(tmp_path / "x_eval_results.json", theirs())
    (tmp_path / "parts").mkdir()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as bundle:
        for name, found in theirs().items():
            write(tmp_path / "parts" / f"{name}_eval_results.json", {name: found})
            bundle.writestr(f"{name}_eval_results.json", json.dumps({name: found}))
    texts = []
    for source in (whole, tmp_path / "parts", tmp_path / "x.zip"):
        assert run_cli("import", source, "--output", tmp_path / "run", "--variant", "x").code == 0
        scores = results.load(tmp_path / "run").scores
        texts.append(scores[sorted(scores.columns)].to_csv(index=False))
    assert texts[0] == texts[1] == texts[2]


def test_two_runs_of_results_are_compared_by_prompt(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    for name, shift in (("before", 0.0), ("after", -0.1)):
        file = write(tmp_path / f"{name}.json", theirs(shift, dimensions=["aesthetic_quality", "subject_consistency"]))
        assert run_cli("import", file, "--output", tmp_path / name, "--variant", "theirs").code == 0
    answer = run_cli("compare", tmp_path / "before", tmp_path / "after")
    assert answer.code == 1, answer.out
    assert answer.out.count("worse") >= 2
    assert run_cli("compare", tmp_path / "before", tmp_path / "before").code == 0


def test_what_is_not_of_vbench_is_said(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    found = theirs(dimensions=["aesthetic_quality"])
    found["aesthetic_quality"][0] = 0.9
    found["aesthetic_quality"][1].append({"video_path": "a prompt of my own-0.mp4", "video_results": 0.5})
    found["smell"] = [0.1, [{"video_path": "a prompt of my own-0.mp4", "video_results": 0.1}]]
    answer = run_cli("import", write(tmp_path / "x.json", found), "--output", tmp_path / "run")
    assert answer.code == 0
    assert "smell is no metric here and is left out" in answer.err
    assert "the file says 0.9, the mean of its videos is 0.5" in answer.err
    assert "1 prompts are not of the suite" in answer.err
    assert "VBench Total" not in answer.out


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("not json", "not in the form of VBench's results"),
        ("[1, 2]", "not in the form of VBench's results"),
        ('{"aesthetic_quality": 0.5}', "not in the form of VBench's results"),
        ('{"aesthetic_quality": [0.5, [{"video_path": "x"}]]}', "not in the form of VBench's results"),
        ('{"aesthetic_quality": [0.5, [{"video_path": "x.mp4", "video_results": 1}]]}', "PROMPT-INDEX.mp4"),
        ("{}", "holds no VBench results"),
        ("[" * 9999, "not in the form of VBench's results"),
    ],
)
def test_another_file_is_one_line(content: str, problem: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    (tmp_path / "x.json").write_text(content)
    answer = run_cli("import", tmp_path / "x.json", "--output", tmp_path / "run")
    assert answer.code == 2
    assert problem in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "run" / "table.json").exists()


def test_what_we_export_as_a_submission_is_read_back_equal(
    tmp_path: Path, run_cli: Callable[..., Any], make_video: Callable[..., Path]
) -> None:
    file = write(tmp_path / "x_eval_results.json", theirs(dimensions=["imaging_quality", "dynamic_degree"]))
    assert run_cli("import", file, "--output", tmp_path / "first", "--variant", "v").code == 0
    first = results.load(tmp_path / "first")
    make_video("clip.mp4", num_frames=2, folder=tmp_path / "store" / "clips")
    first.scores["file"] = "clips/clip.mp4"
    run = first.run.model_copy(update={"store": str(tmp_path / "store")})
    columns = tuple(c.__class__(**{**vars(c), "signature": f"{c.name}|vbench0.1.5|v1"}) for c in first.columns)
    ours = results.Results(tmp_path / "ours", run, columns, (), first.scores)
    export.export_vbench(ours, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "v_submission.zip") as bundle:
        assert sorted(bundle.namelist()) == ["dynamic_degree_eval_results.json", "imaging_quality_eval_results.json"]
        (mean, videos) = json.loads(bundle.read("imaging_quality_eval_results.json"))["imaging_quality"]
    assert mean == pytest.approx(theirs(dimensions=["imaging_quality"])["imaging_quality"][0])
    assert max(video["video_results"] for video in videos) > 50
    again = run_cli("import", tmp_path / "out" / "v_submission.zip", "--output", tmp_path / "again", "--variant", "v")
    assert again.code == 0, again.err
    second = results.load(tmp_path / "again")
    for name in ("imaging_quality", "dynamic_degree"):
        np.testing.assert_allclose(second.scores[name], first.scores[name], rtol=1e-12)
