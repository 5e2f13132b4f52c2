"""The engine against an oracle written apart from it: full forwards, processors swapped by hand, no sharing.

Every step is compared: the combined prediction that the scheduler gets and the latents that it makes of it. In float64
nothing but the formula can tell the two apart, so the difference is absolute, for SVD's first latents of 2800 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

Bench = Any
PROMISED = 1e-5
TOLERANCE = 1e-6 * PROMISED  # float64 leaves 5e-13 of SVD and 1e-13 of the others
FLOAT32_TOLERANCE = 1e-4
"""Relative to a tensor's largest value; in 3 steps 2e-5 was measured on SVD, 1e-5 on Mochi, less on the others. Wider,
because float32 resolves 2e-4 of SVD's latents at sigma 700, and later ones, a thousand times smaller, inherit what was
lost there; and because random blocks amplify rounding from step to step."""

SVD_LAYER = "up_blocks.1.attentions.0"  # the 8th in execution order
SVD_SPATIAL, SVD_TEMPORAL = f"{SVD_LAYER}.transformer_blocks.0", f"{SVD_LAYER}.temporal_transformer_blocks.0"


class Values:
    """Self-attention whose map is the identity."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return attn.to_out[0](attn.to_v(hidden_states))


class Input:
    """Attention that returns what it got."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


class Masked:
    """The stock processor under a full N x N mask that leaves each video token itself and all text."""

    def __init__(self, stock: Any, text_first: bool) -> None:
        self.stock, self.text_first = stock, text_first

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        image_rotary_emb: Any = None,  # by name: CogVideoX drops what a processor does not name
    ) -> Any:
        real, video = F.scaled_dot_product_attention, hidden_states.shape[1]

        def masked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
            total = key.shape[2]
            mask = torch.ones(total, total, dtype=torch.bool)
            span = slice(total - video, None) if self.text_first else slice(0, video)
            mask[span, span] = torch.eye(video, dtype=torch.bool)
            own = options.get("attn_mask")  # of text that is only padding
            return real(query, key, value, attn_mask=mask if own is None else mask & own)

        F.scaled_dot_product_attention = masked  # type: ignore[assignment]
        try:
            return self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        finally:
            F.scaled_dot_product_attention = real


class Blurred:
    """The stock processor with queries that scipy blurred over `shape` (the last axes of one sample's tokens)."""

    def __init__(self, stock: Any, shape: tuple[int, ...], sigmas: tuple[float, ...]) -> None:
        self.stock, self.shape, self.sigmas = stock, shape, sigmas

    def __call__(self, attn: Any, *args: Any, **kwargs: Any) -> Any:
        def blur(module: Any, inputs: Any, q: torch.Tensor) -> torch.Tensor:
            grid = q.reshape(len(q), *self.shape, -1).double().numpy()
            blurred = gaussian_filter(grid, (0, *self.sigmas, 0), mode="nearest", truncate=3)
            return torch.from_numpy(blurred).to(q.dtype).reshape(q.shape)

        handle = attn.to_q.register_forward_hook(blur)
        try:
            return self.stock(attn, *args, **kwargs)
        finally:
            handle.remove()


@contextmanager
def processor(denoiser: Any, path: str, make: Callable[[Any], Any]) -> Iterator[None]:
    block = denoiser.get_submodule(path)
    attention = block.attn1 if hasattr(block, "attn1") else block.attn
    stock = attention.processor
    attention.processor = make(stock)
    try:
        yield
    finally:
        attention.processor = stock


@contextmanager
def returns_input(denoiser: Any, block: str, streams: int) -> Iterator[None]:
    module = denoiser.get_submodule(block)
    names = ("hidden_states", "encoder_hidden_states")[:streams]

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = tuple(kwargs.get(name, args[i] if i < len(args) else None) for i, name in enumerate(names))
        return found if streams > 1 else found[0]

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


Pass = tuple[float, list[Callable[[Any], Any]]]


def oracle(
    bench: Bench, cfg_scale: float, passes: list[Pass], *, batch: int = 1, steps: int = 2, orthogonal: bool = False
) -> Any:
    """The trajectory whose every step gets u + g (c - u) + sum of w (c - p), each from a full forward of its own."""
    denoiser, model = bench.denoiser, bench.model
    stock, cfg = denoiser.forward, cfg_scale > 1
    seen: dict[str, Any] = {}

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = stock(*args, **kwargs)[0]
        if model.model.batch_order == "c,u" and "c" in seen:
            seen["u"] = out
            return (out,)
        if cfg and model.model.batch_order == "uc":
            seen["u"], seen["c"] = out.chunk(2)
            args = tuple(x[batch:] if i in model.rows else x for i, x in enumerate(args))
            kwargs = {k: x[batch:] if k in model.rows else x for k, x in kwargs.items()}
        else:
            seen["c"] = out
        seen["p"] = []
        for _, changes in passes:
            with ExitStack() as stack:
                for change in changes:
                    stack.enter_context(change(denoiser))
                seen["p"].append(stock(*args, **kwargs)[0])
        return (out,)

    def combine(model_output: torch.Tensor) -> torch.Tensor:
        c = seen.pop("c").double()
        u = seen.pop("u", c).double()
        g: Any = cfg_scale
        if model.model.denoisers == ("unet",):  # SVD: from 1 for the first frame up to g for the last
            g = torch.linspace(1, cfg_scale, c.shape[1], dtype=torch.float64).reshape(1, -1, 1, 1, 1)
        deltas = [c - p.double() for p in seen.pop("p")]
        if orthogonal:
            for row in range(len(c)):
                s, t = deltas[0][row].clone(), deltas[1][row]
                deltas[1][row] = t - (t * s).sum() / (s * s).sum() * s
        pred = u + g * (c - u)
        for (scale, _), delta in zip(passes, deltas, strict=True):
            pred = pred + scale * delta
        return pred.to(model_output.dtype)

    denoiser.forward = forward
    try:
        return bench.trajectory(cfg_scale, batch=batch, steps=steps, replace=combine)
    finally:
        del denoiser.forward


def attn1(make: Callable[[Any], Any], *blocks: str) -> list[Callable[[Any], Any]]:
    return [lambda denoiser, block=block: processor(denoiser, block, make) for block in blocks]


def skipped(streams: int, *blocks: str) -> list[Callable[[Any], Any]]:
    return [lambda denoiser, block=block: returns_input(denoiser, block, streams) for block in blocks]


def values(_: Any) -> Values:
    return Values()


def returned(_: Any) -> Input:
    return Input()


SVD_PASSES: dict[str, tuple[float, list[Pass]]] = {
    "cfg3+stg-a[8]s2t0.5": (3, [(2, attn1(values, SVD_SPATIAL)), (0.5, attn1(values, SVD_TEMPORAL))]),
    "cfg3+stg-a[8]s2": (3, [(2, attn1(values, SVD_SPATIAL))]),
    f"cfg3+stg-a[{SVD_LAYER}]t2": (3, [(2, attn1(values, SVD_TEMPORAL))]),
    "cfg3+stg-a[8]w2": (3, [(2, attn1(values, SVD_SPATIAL, SVD_TEMPORAL))]),
    "cfg3+stg-r[8]s1t1": (3, [(1, skipped(1, SVD_SPATIAL)), (1, skipped(1, SVD_TEMPORAL))]),
    "cfg3+stg-i[8]s1t1": (3, [(1, attn1(returned, SVD_SPATIAL)), (1, attn1(returned, SVD_TEMPORAL))]),
    "cfg1+stg-a[1,8]s1": (
        1,
        [(1, attn1(values, "down_blocks.0.attentions.0.transformer_blocks.0", SVD_SPATIAL))],
    ),
    "cfg3+seg[8]s2t1b1": (  # the 8th layer's frames are 4 x 4 here
        3,
        [
            (2, attn1(lambda stock: Blurred(stock, (4, 4), (1, 1)), SVD_SPATIAL)),
            (1, attn1(lambda stock: Blurred(stock, (3,), (1,)), SVD_TEMPORAL)),
        ],
    ),
}


TEXT_FIRST = {"mochi": False, "cogvideox": True, "ltx": True, "wan": True, "hunyuan": False} | {
    "hunyuan15": False,
    "cogvideox-i2v": True,
}
BLOCK = {
    "mochi": "transformer_blocks.35",
    "cogvideox": "transformer_blocks.11",
    "ltx": "transformer_blocks.19",
    "wan": "blocks.8",
    "hunyuan": "transformer_blocks.2",
    "hunyuan15": "transformer_blocks.2",
    "cogvideox-i2v": "transformer_blocks.11",
}
STREAMS = dict.fromkeys(BLOCK, 2) | {"ltx": 1, "wan": 1}


def joint(name: str, method: str) -> tuple[str, float, list[Pass]]:
    """A guidance of a joint attention model, and what the oracle needs to do the same."""
    block, text_first = BLOCK[name], TEXT_FIRST[name]
    changes = {
        "stg-a": attn1(lambda stock: Masked(stock, text_first), block),
        "stg-r": skipped(STREAMS[name], block),
    }
    return f"cfg4.5+{method}[{block.rpartition('.')[2]}]w1.5", 4.5, [(1.5, changes[method])]


@pytest.fixture
def exact(bench: Callable[..., Bench]) -> Callable[[str], Bench]:
    """`exact("svd")`: the model in float64."""
    return lambda name: bench(name, torch.float64)


@pytest.mark.parametrize("text", SVD_PASSES)
def test_svd_equals_full_forwards_with_swapped_processors(exact: Callable[[str], Bench], text: str) -> None:
    svd = exact("svd")
    assert svd.guided(text).distance(oracle(svd, *SVD_PASSES[text])) <= TOLERANCE


def test_svd_of_two_clips_slices_the_conditional_rows_of_folded_tensors(exact: Callable[[str], Bench]) -> None:
    svd, text = exact("svd"), "cfg3+stg-a[8]s2t0.5"
    expected = oracle(svd, *SVD_PASSES[text], batch=2)
    assert svd.guided(text, batch=2).distance(expected) <= TOLERANCE


def test_orthogonalised_trajectory_equals_projection_by_hand(exact: Callable[[str], Bench]) -> None:
    svd, text = exact("svd"), "cfg3+stg-a[8]s2t0.5"
    expected = oracle(svd, *SVD_PASSES[text], orthogonal=True, batch=2)
    assert svd.guided(text + "+orth", batch=2).distance(expected) <= TOLERANCE


@pytest.mark.parametrize("method", ["stg-a", "stg-r"])
@pytest.mark.parametrize("name", BLOCK)
@pytest.mark.parametrize(("batch", "steps"), [(1, 3), (2, 2)])
def test_joint_attention_models_equal_full_forwards_with_n_by_n_masks(
    exact: Callable[[str], Bench], name: str, method: str, batch: int, steps: int
) -> None:
    model, (text, *same) = exact(name), joint(name, method)
    found = model.guided(text, batch=batch, steps=steps)
    assert found.distance(oracle(model, *same, batch=batch, steps=steps)) <= TOLERANCE


@pytest.mark.parametrize("name", ["svd", *BLOCK])
def test_in_float32_every_step_differs_by_rounding_only(bench: Callable[..., Bench], name: str) -> None:
    svd = "cfg3+stg-a[8]s2t0.5"
    model, (text, *same) = bench(name), (svd, *SVD_PASSES[svd]) if name == "svd" else joint(name, "stg-a")
    found = model.guided(text, batch=2, steps=3)
    assert found.relative_distance(oracle(model, *same, batch=2, steps=3)) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("method", ["stg-a", "stg-r"])
def test_single_stream_blocks_of_hunyuan_are_layers_too(exact: Callable[[str], Bench], method: str) -> None:
    block = "single_transformer_blocks.1"
    changes = attn1(lambda stock: Masked(stock, False), block) if method == "stg-a" else skipped(2, block)
    ours = exact("hunyuan").guided(f"cfg1+{method}[21]w1.5", steps=2)
    assert ours.distance(oracle(exact("hunyuan"), 1, [(1.5, changes)])) < TOLERANCE


def test_the_last_mochi_block_which_drops_its_text_stream(exact: Callable[[str], Bench]) -> None:
    mochi = exact("mochi")
    changes = attn1(lambda stock: Masked(stock, False), "transformer_blocks.47")
    assert mochi.guided("cfg4.5+stg-a[47]w2").distance(oracle(mochi, 4.5, [(2, changes)])) <= TOLERANCE


def test_without_cfg_every_row_is_conditional(exact: Callable[[str], Bench]) -> None:
    mochi = exact("mochi")
    changes = attn1(lambda stock: Masked(stock, False), "transformer_blocks.10")
    assert mochi.guided("cfg1+stg-a[10]w2", batch=2).distance(oracle(mochi, 1, [(2, changes)], batch=2)) <= TOLERANCE


def test_seg_in_joint_attention_blurs_each_frame_and_leaves_text(exact: Callable[[str], Bench]) -> None:
    mochi = exact("mochi")  # 3 latent frames of 2 x 3 tokens
    changes = attn1(lambda stock: Blurred(stock, (3, 2, 3), (0, 1, 1)), "transformer_blocks.35")
    assert mochi.guided("cfg4.5+seg[35]w1b1").distance(oracle(mochi, 4.5, [(1, changes)])) <= TOLERANCE


@pytest.mark.parametrize("text", ["cfg3+stg-a[8]s2t0.5", "cfg3+stg-r[2]s1t1+orth", "cfg3+seg[16]s2t1b1"])
def test_batched_weak_passes_and_unshared_ones_give_the_same(exact: Callable[[str], Bench], text: str) -> None:
    svd = exact("svd")
    expected = svd.guided(text, batch=2, steps=1, share_prefix=False)
    assert svd.guided(text, batch=2, steps=1).distance(expected) <= TOLERANCE
    assert svd.guided(text, batch=2, steps=1, batch_weak_passes=True).distance(expected) <= TOLERANCE
