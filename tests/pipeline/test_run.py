"""The loop: clips that two cases share are made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.pipeline import run
from stg_eval.pipeline.dry_run import forecast
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.storage.store import Store
from stg_eval.types import StgEvalError


@pytest.fixture
def twins() -> Plan:
    """Two cases that show the model the same, in different batches."""
    settings = {"num_inference_steps": 2, "batch_size": 1}
    plan = make_plan(
        suites.load("demo"), "tiny", guidance=["cfg"], metric_names=["accuracy_sprites"], limit=1, settings=settings
    )
    (request,) = plan.requests["cfg"]
    twin = replace(request, case=replace(request.case, id="twin"))
    assert twin.key == request.key
    return replace(plan, requests={"cfg": (request, twin)})


def test_a_clip_that_two_cases_share_is_made_once_and_counts_for_both(
    tmp_path: Path, twins: Plan, capsys: pytest.CaptureFixture
) -> None:
    assert "Clips to make: 1 " in forecast(twins, tmp_path / "store")
    Store(tmp_path / "store").close()
    assert "Clips to make: 1 " in forecast(twins, tmp_path / "store")
    found = run.run(twins, store_path=tmp_path / "store", output=tmp_path / "run", device="cpu")
    err = capsys.readouterr().err
    assert "Generating: 1/1" in err
    assert "Scoring: 1/1" in err
    assert found.scores["accuracy_sprites"].notna().all()
    assert len(found.scores) == 2


def test_an_unknown_executor_is_refused_before_any_work(tmp_path: Path, twins: Plan) -> None:
    with pytest.raises(StgEvalError, match="unknown executor 'slurm'"):
        run.run(twins, store_path=tmp_path / "store", output=tmp_path / "run", device="cpu", executor="slurm")
    assert list(tmp_path.iterdir()) == []
