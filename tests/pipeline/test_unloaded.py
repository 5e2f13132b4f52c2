"""A metric without its weights costs itself only: said at once and in the table; the same command makes up for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stg_eval.executors.loading import load_available
from stg_eval.metrics import registry
from stg_eval.storage import results
from stg_eval.types import StgEvalError

RUN = ("--suite", "demo", "--model", "tiny", "--limit", 4, "--set", "num_inference_steps=2", "--device", "cpu")
METRICS = ("--metrics", "accuracy_sprites,temporal_flickering,psnr")


def absent(device: str) -> Any:
    raise StgEvalError("weights 'net' (1 MB, for tests) are missing; get them with: stg-eval weights fetch net")


def lose(patch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        card = registry.card(name)
        kind = "load_pair" if card.load_pair else "load"
        patch.setitem(registry.METRICS, name, replace(card, **{kind: absent}))


def test_missing_weights_cost_their_metric_only_and_the_same_command_makes_up_for_it(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ("--output", tmp_path / "run", "--store", tmp_path / "store")
    with monkeypatch.context() as patch:
        lose(patch, "accuracy_sprites", "psnr")
        first = run_cli("run", *RUN, *METRICS, *places)
        assert first.code == 1
        assert first.err.index("note: accuracy_sprites is left out: weights 'net'") < first.err.index("Generating")
        assert "missing: cfg, accuracy_sprites: weights 'net'" in first.err
        assert "stg-eval weights fetch net" in first.out, "the table says what is not there"
        found = results.load(tmp_path / "run")
        assert found.run.metrics == ("accuracy_sprites", "temporal_flickering", "psnr")
        assert found.scores["temporal_flickering"].notna().all()
        assert "accuracy_sprites" not in found.scores
        for verb in ("show", "report"):
            assert run_cli(verb, tmp_path / "run").code == 0
        other = ("--output", tmp_path / "other", "--store", tmp_path / "other-store")
        assert run_cli("run", *RUN, *METRICS, *other).code == 1
        judged = run_cli("compare", tmp_path / "run", tmp_path / "other")
        assert judged.code == 0, judged.err
        assert "Temporal Flickering" in judged.out
    second = run_cli("run", *RUN, *METRICS, *places)
    assert second.code == 0, second.err
    assert "Generating" not in second.err
    found = results.load(tmp_path / "run")
    assert found.scores["accuracy_sprites"].notna().all()
    assert found.scores.loc[found.scores["variant"] == "stg", "psnr"].notna().all()
    assert run_cli("compare", tmp_path / "other", tmp_path / "run").code == 3


def test_a_run_whose_metrics_all_lack_their_weights_is_refused_before_any_work(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, "accuracy_sprites")
    answer = run_cli(
        "run", *RUN, "--metrics", "accuracy_sprites", "--output", tmp_path / "r", "--store", tmp_path / "s"
    )
    assert answer.code == 2
    assert "stg-eval weights fetch net" in answer.err
    assert not (tmp_path / "s" / "store.sqlite").exists()


def test_a_filter_that_is_lost_takes_along_what_counts_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch, "static_filter")
    cards = [registry.card(name) for name in ("temporal_flickering", "static_filter", "accuracy_sprites")]
    loaded, lost = load_available(cards, "cpu")
    assert set(loaded) == {"accuracy_sprites"}
    assert "counts the clips that static_filter passes, and weights 'net'" in lost["temporal_flickering"]
