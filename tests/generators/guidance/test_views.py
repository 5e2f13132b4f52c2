"""One-step predictions and sweeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stg_eval.generators.guidance import Predictions, equations, guided
from stg_eval.generators.guidance.combinations import sweep_variants
from stg_eval.generators.guidance.views import one_step
from stg_eval.types import Guidance, StgEvalError

Bench = Any


def test_views_of_a_step_combine_as_the_formula_says(bench: Callable[[str], Bench]) -> None:
    mochi, guidance = bench("mochi"), Guidance.parse("cfg4.5+stg-a[35]w2")
    scheduler = mochi.pipeline.scheduler
    plain = mochi.guided(str(guidance))
    with (
        guided(mochi.denoiser, guidance, mochi.model.layer_map, batch_order="uc") as predictions,
        one_step(scheduler, predictions, 1, 3) as views,
    ):
        watched = mochi.trajectory(4.5)
    assert watched.equals(plain)  # looking changes nothing
    assert sorted(views) == ["c", "cfg", "stg", "u", "weak-joint"]
    # the weights sum to one, so the combination holds for clean samples as for predictions
    u, c, p = views["u"], views["c"], views["weak-joint"]
    torch.testing.assert_close(views["cfg"], equations.cfg(u, c, 4.5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(views["stg"], equations.cfg(u, c, 4.5) + 2 * (c - p), rtol=1e-4, atol=1e-4)
    # the last step of a flow goes to its clean sample
    torch.testing.assert_close(views["stg"], watched.latents, rtol=1e-4, atol=1e-4)


def test_under_rescale_the_view_is_still_what_the_scheduler_gets(bench: Callable[[str], Bench]) -> None:
    mochi, guidance = bench("mochi"), Guidance.parse("cfg4.5+stg-a[35]w2+rescale1")
    scheduler = mochi.pipeline.scheduler
    with (
        guided(mochi.denoiser, guidance, mochi.model.layer_map, batch_order="uc", scheduler=scheduler) as predictions,
        one_step(scheduler, predictions, 1, 3) as views,
    ):
        latents = mochi.trajectory(4.5).latents
    # the last step of a flow goes to its clean sample
    torch.testing.assert_close(views["stg"], latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["cogvideox", "wan"])
def test_a_scheduler_without_clean_samples_is_refused_before_the_first_step(
    bench: Callable[[str], Bench], name: str
) -> None:
    scheduler = bench(name).pipeline.scheduler
    with pytest.raises(StgEvalError, match=type(scheduler).__name__), one_step(scheduler, Predictions(), 0, 1):
        raise AssertionError("opened")


def test_views_without_cfg_and_skip_are_the_conditional_prediction_alone(bench: Callable[[str], Bench]) -> None:
    svd = bench("svd")
    with (
        guided(svd.denoiser, Guidance(), svd.model.layer_map, batch_order="c") as predictions,
        one_step(svd.pipeline.scheduler, predictions, 0, 1) as views,
    ):
        svd.trajectory(1)
    assert list(views) == ["c"]


def test_sweep_is_every_combination_once_around_the_base() -> None:
    base = Guidance.parse("cfg3+rescale0.7")
    variants = sweep_variants(base, ["7", "8"], [0, 1, 2], [("stg-a", "both"), ("stg-r", "spatial")])
    assert [str(v) for v in variants] == [
        "cfg3+rescale0.7",
        *(f"cfg3+stg-a[{layer}]s{w}t{w}+rescale0.7" for layer in (7, 8) for w in (1, 2)),
        *(f"cfg3+stg-r[{layer}]s{w}+rescale0.7" for layer in (7, 8) for w in (1, 2)),
    ]


def test_sweep_keeps_orthogonal_where_there_are_two_terms() -> None:
    base = Guidance.parse("cfg3+stg-a[8]s2t2+orth")
    variants = sweep_variants(base, ["8"], [1.5], [("stg-a", "both"), ("stg-a", "temporal"), ("seg", "joint")])
    assert [str(v) for v in variants] == ["cfg3+stg-a[8]s1.5t1.5+orth", "cfg3+stg-a[8]t1.5", "cfg3+seg[8]w1.5"]


@pytest.mark.parametrize(("layers", "scales"), [([], [1.0]), (["8"], []), (["8", "8"], [1.0])])
def test_sweep_over_nothing_or_twice_the_same_is_refused(layers: list[str], scales: list[float]) -> None:
    with pytest.raises(StgEvalError, match="each once"):
        sweep_variants(Guidance(cfg_scale=3), layers, scales, [("stg-a", "both")])
