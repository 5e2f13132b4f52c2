"""Prediction methods: each equals its formula written another way, diffusers' guider where that works."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, guiders
from scipy.ndimage import correlate
from torch import Tensor, nn

from stg_eval.generators.guidance import LayerMap, guided, predictions, stack
from stg_eval.generators.guidance.combination import Combination
from stg_eval.generators.guidance.predictions import Step
from stg_eval.methods import PREDICTIONS
from stg_eval.terms import Combine, Moment
from stg_eval.types import Guidance, StgEvalError

from .conftest import Widened  # type: ignore[import-not-found]

SHAPE = (2, 4, 3, 8, 6)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


C, U = draw(1), draw(2)
STEP = Step(Moment(3, 10))


def samples(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A formula over vectors, sample by sample: [N] and [N] -> [N]."""
    rows = [function(c.flatten(), u.flatten()).reshape(c.shape) for c, u in zip(C, U, strict=True)]
    return torch.stack(rows)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


# ---- formulas


def test_apg_is_the_paper_s_projection_with_its_momentum() -> None:
    average, state = torch.zeros_like(C), {}  # type: ignore[var-annotated]
    for k in range(3):  # three steps: the momentum carries over
        c, u = C + k, U * (k + 1)
        found = predictions.apg(c, u, 4.0, Step(Moment(k, 3), None, state), eta=0.25, norm=2.5, momentum=-0.5)
        average = c - u - 0.5 * average
        for i in range(len(C)):
            d = average[i].flatten()
            d = d if d.norm() <= 2.5 else d * 2.5 / d.norm()
            unit = c[i].flatten() / c[i].norm()
            along = (d @ unit) * unit
            close(found[i].flatten(), c[i].flatten() + 3 * ((d - along) + 0.25 * along))


def test_cfg_zero_star_scales_u_and_begins_with_zero() -> None:
    def formula(c: Tensor, u: Tensor) -> Tensor:
        alpha = torch.linalg.lstsq(u[:, None], c[:, None]).solution[0, 0]  # the scale of u that is nearest to c
        return alpha * u + 4 * (c - alpha * u)

    close(predictions.cfg_zero_star(C, U, 4.0, STEP, steps=1), samples(formula))
    assert not predictions.cfg_zero_star(C, U, 4.0, Step(Moment(0, 10)), steps=1).any()


def test_tcfg_keeps_of_u_what_lies_along_the_first_singular_vector() -> None:
    def formula(c: Tensor, u: Tensor) -> Tensor:
        v = torch.linalg.svd(torch.stack([c, u]), full_matrices=False)[2][0]
        return (u @ v) * v + 4 * (c - (u @ v) * v)

    close(predictions.tcfg(C, U, 4.0, STEP), samples(formula))


def test_magnitude_aware_guidance_weakens_with_the_ratio_of_norms() -> None:
    def formula(c: Tensor, u: Tensor) -> Tensor:
        ratio = (c - u).norm() / u.norm()
        return u + (1 + 3 * torch.exp(-0.7 * ratio)) * (c - u)

    close(predictions.magnitude_aware(C, U, 4.0, STEP, alpha=0.7), samples(formula))


def test_frequency_decoupled_guidance_scales_low_and_high_frequencies_apart() -> None:
    close(predictions.fdg(C, U, 4.0, STEP, low=4), U + 4 * (C - U))  # equal scales are CFG
    flat, checks = torch.ones(SHAPE).double(), torch.ones(SHAPE).double()
    checks[..., ::2] *= -1  # the highest horizontal frequency, which a blur by (1 4 6 4 1) removes
    close(predictions.fdg(U + flat, U, 4.0, STEP, low=1.5), U + 1.5 * flat)
    inner = (..., slice(2, -2), slice(2, -2))
    close(predictions.fdg(U + checks, U, 4.0, STEP, low=1.5)[inner], (U + 4 * checks)[inner])


def test_frequency_decoupled_guidance_is_a_laplacian_pyramid_of_two_levels() -> None:
    """With scipy's filter. Halving takes the mean of four; doubling three quarters of the near one, a quarter of the
    next."""
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256

    def blurred(plane: np.ndarray) -> np.ndarray:
        return correlate(plane, kernel, mode="mirror")

    def doubled(line: np.ndarray) -> np.ndarray:
        padded = np.pad(line, ((1, 1), (0, 0)), mode="edge")
        pairs = [0.25 * padded[:-2] + 0.75 * line, 0.75 * line + 0.25 * padded[2:]]
        return np.stack(pairs, axis=1).reshape(-1, line.shape[1])

    def formula(c: np.ndarray, u: np.ndarray) -> np.ndarray:
        low_c, low_u = (blurred(x).reshape(4, 2, 3, 2).mean((1, 3)) for x in (c, u))
        up_c, up_u = (blurred(doubled(doubled(low).T).T) for low in (low_c, low_u))
        high = (u - up_u) + 4.0 * ((c - up_c) - (u - up_u))
        return high + up_u + 1.5 * (up_c - up_u)

    planes = [formula(c, u) for c, u in zip(*(x.reshape(-1, 8, 6).numpy() for x in (C, U)), strict=True)]
    close(predictions.fdg(C, U, 4.0, STEP, low=1.5), torch.from_numpy(np.stack(planes)).reshape(SHAPE))


def test_frequency_decoupled_guidance_sees_the_frames_in_tokens() -> None:
    as_tokens = [x.flatten(2).transpose(1, 2) for x in (C, U)]
    found = predictions.fdg(*as_tokens, 4.0, Step(Moment(0, 1), SHAPE[2:]), low=1.5)  # type: ignore[arg-type]
    close(found.transpose(1, 2).reshape(SHAPE), predictions.fdg(C, U, 4.0, STEP, low=1.5))
    with pytest.raises(StgEvalError, match="token grid"):
        predictions.fdg(*as_tokens, 4.0, STEP, low=1.5)


@pytest.mark.parametrize("method", sorted(PREDICTIONS))
def test_a_sample_does_not_depend_on_its_batch(method: str) -> None:
    together, alone = Combination(Combine(method=method)), Combination(Combine(method=method))
    for k in range(2):
        moment = Moment(k + 1, 4)
        both = together(C + k, U, 3.0, moment)
        close(both[:1], alone(C[:1] + k, U[:1], 3.0, moment), 1e-12)


# ---- diffusers' guiders

PAIRS = {
    "apg": (
        {"eta": 0.25, "norm": 2.5, "momentum": -0.5},
        "AdaptiveProjectedGuidance",
        {
            "guidance_scale": 3.0,  # its original formulation counts from c: g - 1
            "eta": 0.25,
            "adaptive_projected_guidance_rescale": 2.5,
            "adaptive_projected_guidance_momentum": -0.5,
            "use_original_formulation": True,
        },
    ),
    "zero": ({"steps": 1}, "ClassifierFreeZeroStarGuidance", {"guidance_scale": 4.0}),
    "tcfg": ({}, "TangentialClassifierFreeGuidance", {"guidance_scale": 4.0}),
    "mag": ({"alpha": 0.7}, "MagnitudeAwareGuidance", {"guidance_scale": 4.0, "alpha": 0.7}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_methods_equal_diffusers_guiders(name: str) -> None:
    parameters, kind, config = PAIRS[name]
    ours = Combination(Combine(method=name, parameters=tuple(parameters.items())))
    theirs = getattr(guiders, kind)(**config)
    for k in range(3):
        c, u = C + k, U - k
        if name == "mag":  # theirs takes no videos, but tokens
            c, u = c.flatten(2), u.flatten(2)
        theirs.set_state(k, 3, None)
        theirs.prepare_inputs({"x": (c, u)})
        with Widened():  # some of them calculate in float32 whatever they get, and are as far from the formula
            expected = theirs.forward(pred_cond=c, pred_uncond=u).pred
        close(ours(c, u, 4.0, Moment(k, 3)), expected)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("ClassifierFreeGuidance", {}),
        ("AdaptiveProjectedGuidance", {"adaptive_projected_guidance_momentum": -0.5, "eta": 0.5}),
        ("ClassifierFreeZeroStarGuidance", {"zero_init_steps": 2}),
        ("TangentialClassifierFreeGuidance", {"guidance_rescale": 0.7}),
    ],
)
def test_any_guider_of_diffusers_runs_with_a_state_of_its_own_for_each_run(kind: str, config: dict[str, Any]) -> None:
    ours = Combination(Combine(method=f"guider:{kind}", config=json.dumps(config)))
    for _ in range(2):  # the second run starts afresh
        theirs = getattr(guiders, kind)(**config, guidance_scale=4.0)
        for k in range(3):
            theirs.set_state(k, 3, None)
            theirs.prepare_inputs({"x": (C, U)})
            expected = theirs.forward(pred_cond=C + k, pred_uncond=U).pred
            found = ours(C + k, U, 4.0, Moment(k, 3), denoiser=nn.Identity(), run=lambda conditional: C)
            assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("NoGuidance", "{}", "no guider 'NoGuidance' .known: AdaptiveProjectedGuidance"),
        ("AdaptiveProjectedGuidance", '{"zeta": 1}', "no option 'zeta'"),
        ("ClassifierFreeGuidance", '{"start": 3.0}', "cannot be made"),
    ],
)
def test_a_guider_that_cannot_run_is_one_line(kind: str, config: str, message: str) -> None:
    with pytest.raises(StgEvalError, match=message):
        Combination(Combine(method=f"guider:{kind}", config=config))


SKIPPED = {"indices": [9], "fqn": "transformer_blocks", "dropout": 1.0}
"""diffusers' way to leave out a block."""


@pytest.mark.parametrize(
    ("guider", "ours"),
    [
        (
            f'SkipLayerGuidance{{"skip_layer_config":{json.dumps(SKIPPED)},"skip_layer_guidance_scale":1.0,'
            '"skip_layer_guidance_start":0.0,"skip_layer_guidance_stop":1.0}',
            "cfg3+stg-r[9]w1@s1-9",  # diffusers' window leaves out its first step
        ),
        (f'AutoGuidance{{"auto_guidance_config":{json.dumps(SKIPPED)}}}', "cfg3+stg-r[9]u"),
    ],
)
@pytest.mark.parametrize("name", ["ltx", "wan"])
def test_guiders_that_perturb_the_model_do_what_skips_do(
    bench: Callable[[str], Any], name: str, guider: str, ours: str
) -> None:
    model = bench(name)
    guider = guider.replace("transformer_blocks", "blocks") if name == "wan" else guider
    before, attributes = model.trajectory(3, steps=3), [sorted(m.__dict__) for m in model.denoiser.modules()]
    found = model.guided(f"cfg3+guider:{guider}", steps=3)
    assert found.relative_distance(model.guided(ours, steps=3)) < 1e-4
    assert not found.equals(before)
    assert [sorted(m.__dict__) for m in model.denoiser.modules()] == attributes
    assert model.trajectory(3, steps=3).equals(before)


def test_a_guider_that_the_model_has_no_place_for_is_one_line(bench: Callable[[str], Any]) -> None:
    term = 'guider:SkipLayerGuidance{"skip_layer_guidance_layers":[1],"skip_layer_guidance_start":0.0}'
    with pytest.raises(StgEvalError, match="SkipLayerGuidance cannot act on LTXVideoTransformer3DModel"):
        bench("ltx").guided(f"cfg3+{term}", steps=10)


# ---- through the engine


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.blocks[1](torch.tanh(self.blocks[0](x))) * y[:, None, None, None, None]


@pytest.mark.parametrize("order", ["uc", "cu", "c,u"])
@pytest.mark.parametrize(
    "text", [*sorted(PREDICTIONS), "apg[norm=1]@0.5-1", 'guider:AdaptiveProjectedGuidance{"eta":0.5}', "tcfg@s0-1"]
)
def test_the_pipeline_ends_with_the_method_s_prediction_in_every_batch_order(text: str, order: str) -> None:
    """The pipeline's own CFG comes after, and must not change it; outside the window it is what there is."""
    torch.manual_seed(0)
    toy, scheduler, g = Toy().double(), FlowMatchEulerDiscreteScheduler(), 3.0
    layer_map = LayerMap(model="toy", layers=stack(joint="blocks"))
    guidance, x = Guidance.parse(f"cfg{g:g}+{text}"), draw(5)
    assert guidance.combine
    yes, no = torch.full((2,), 1.0).double(), torch.full((2,), 0.3).double()
    expected_of = Combination(guidance.combine)
    with guided(toy, guidance, layer_map, batch_order=order, scheduler=scheduler):  # type: ignore[arg-type]
        scheduler.set_timesteps(4)
        for step, t in enumerate(scheduler.timesteps):
            stock = Toy.forward
            c, u = stock(toy, x, yes), stock(toy, x, no)
            if order == "c,u":
                told_c, told_u = toy(x, yes), toy(x, no)
            else:
                halves = toy(torch.cat([x, x]), torch.cat([no, yes] if order == "uc" else [yes, no])).chunk(2)
                told_u, told_c = halves if order == "uc" else halves[::-1]
            found, moment = told_u + g * (told_c - told_u), Moment(step, 4)
            window = guidance.combine.window
            expected = u + g * (c - u)
            if window is None or moment in window:
                expected = expected_of(c.float(), u.float(), g, moment, denoiser=toy, run=bool).double()
            close(found, expected, 1e-5)
            x = scheduler.step(found, t, x, return_dict=False)[0]


@pytest.mark.parametrize("name", ["svd", "mochi", "ltx", "cogvideox", "wan"])
def test_methods_run_on_every_model_beside_a_skip(bench: Callable[[str], Any], name: str) -> None:
    model = bench(name)
    plain, found = model.trajectory(3), model.guided("cfg3+fdg[low=1]+stg-a[8]w0.5@0-0.5")
    assert not found.equals(plain)
