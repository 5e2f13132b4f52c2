"""The formulas: identities they must keep, for any numbers."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.generators.guidance import equations

seeds = st.integers(0, 2**31 - 1)
scales = st.floats(0, 20)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(seeds, scales, scales, scales)
@settings(deadline=None)
def test_one_delta_on_both_halves_passes_any_cfg_unchanged(seed: int, g: float, w_s: float, w_t: float) -> None:
    u, c, p_s, p_t = draw(seed, 4, 2, 3, 5)
    delta = w_s * (c - p_s) + w_t * (c - p_t)
    expected = u + g * (c - u) + w_s * (c - p_s) + w_t * (c - p_t)  # Eq. 20 with CFG
    torch.testing.assert_close(equations.cfg(u + delta, c + delta, g), expected)


@given(seeds, scales)
@settings(deadline=None)
def test_weights_sum_to_one_so_a_common_shift_and_scale_pass_through(seed: int, g: float) -> None:
    u, c, shift = draw(seed, 3, 2, 3)
    moved = equations.cfg(3 * u + shift, 3 * c + shift, g)
    torch.testing.assert_close(moved, 3 * equations.cfg(u, c, g) + shift, rtol=1e-6, atol=1e-6)


@given(seeds, st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_orthogonal_delta_has_no_inner_product_with_the_spatial_one(seed: int, along: float) -> None:
    s = draw(seed, 3, 4, 5, 6, dtype=torch.float32)
    t = draw(seed + 1, 3, 4, 5, 6, dtype=torch.float32) + along * s
    t_perp = equations.orthogonal(t, s)
    for row in range(3):
        cosine = (t_perp[row] * s[row]).sum() / (t_perp[row].norm() * s[row].norm())
        assert abs(float(cosine)) <= 1e-5
        taken = (t - t_perp)[row].double()  # lies along s
        torch.testing.assert_close(
            taken, (taken * s[row]).sum() / (s[row].double() ** 2).sum() * s[row].double(), rtol=0, atol=1e-5
        )


def test_orthogonal_to_nothing_changes_nothing() -> None:
    t = draw(0, 2, 3, 4, dtype=torch.float32)
    s = torch.stack([torch.zeros(3, 4), draw(1, 3, 4, dtype=torch.float32)])
    out = equations.orthogonal(t, s)
    assert torch.equal(out[0], t[0])
    assert torch.isfinite(out).all()
    assert abs(float((out[1] * s[1]).sum())) <= 1e-5


def test_orthogonal_keeps_half_precision_sums_out_of_half_precision() -> None:
    s = torch.full((1, 100_000), 8.0, dtype=torch.float16)  # |s|^2 overflows float16
    t = torch.cat([torch.full((1, 50_000), 2.0), torch.full((1, 50_000), -2.0)], dim=1).half()
    assert torch.equal(equations.orthogonal(t, s), t)


@given(seeds, st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_rescale_of_four_equals_four_rescales_of_one(seed: int, amount: float) -> None:
    scale = torch.tensor([1.0, 5.0, 0.1, 2.0]).reshape(4, 1, 1)
    prediction, c = draw(seed, 4, 3, 7, dtype=torch.float32) * scale, draw(seed + 1, 4, 3, 7, dtype=torch.float32)
    together = equations.rescale(prediction, c, amount)
    alone = torch.cat([equations.rescale(prediction[i : i + 1], c[i : i + 1], amount) for i in range(4)])
    assert torch.equal(together, alone)


def test_full_rescale_takes_over_the_deviation_and_none_changes_nothing() -> None:
    prediction, c = 5 * draw(0, 2, 50) + 1, draw(1, 2, 50)
    assert torch.equal(equations.rescale(prediction, c, 0), prediction.float().double())
    rescaled = equations.rescale(prediction, c, 1)
    torch.testing.assert_close(rescaled.std(1), c.std(1), rtol=1e-5, atol=0)


def test_rescale_of_a_constant_prediction_is_that_prediction() -> None:
    assert torch.equal(equations.rescale(torch.ones(1, 4), torch.randn(1, 4), 1.0), torch.ones(1, 4))
