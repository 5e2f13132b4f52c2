"""What the engine promises whatever the model: nothing is left behind, nothing is computed twice, no skip is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stg_eval.generators.guidance import LayerMap, guided, stack
from stg_eval.types import Guidance, StgEvalError

Bench = Any


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn, self.calls = Attention(width), 0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return x + self.attn(x) * y.repeat_interleave(len(x) // len(y), 0)[:, None]


class Factorised(nn.Module):
    """In the manner of Open-Sora: [batch, frames, tokens, width], conditions [batch, width]."""

    def __init__(self, depth: int = 5, width: int = 8) -> None:
        super().__init__()
        self.spatial_blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.temporal_blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        batch, frames, tokens, _ = x.shape
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = spatial(x.flatten(0, 1), y).unflatten(0, (batch, frames))
            x = temporal(x.transpose(1, 2).flatten(0, 1), y).unflatten(0, (batch, tokens)).transpose(1, 2)
        return x

    def counts(self) -> tuple[list[int], list[int]]:
        found = [b.calls for b in self.spatial_blocks], [b.calls for b in self.temporal_blocks]
        for module in (*self.spatial_blocks, *self.temporal_blocks):
            module.calls = 0
        return found  # type: ignore[return-value]


MAP = LayerMap(
    model="toy",
    layers=stack(spatial="spatial_blocks", temporal="temporal_blocks"),
    attention="attn",
    streams=("x",),
    grid=lambda args, kwargs: (args[0].shape[1], 2, 3),
)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def toy() -> Factorised:
    torch.manual_seed(0)
    return Factorised().eval()


def inputs(rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 6, 8, generator=generator), torch.randn(rows, 8, generator=generator)


def state(module: nn.Module) -> list[Any]:
    """Everything a patch could leave behind: instance attributes and hooks of every submodule."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs")
    return [
        (path, sorted(m.__dict__), [len(m.__dict__[hook]) for hook in hooks], getattr(m, "processor", None))
        for path, m in module.named_modules()
    ]


# ---- restored, bit-equal


MODELS = ("svd", "mochi", "ltx", "cogvideox", "wan")
SKIPS = ("stg-a[8]", "stg-r[11]", "stg-i[2,11]", "seg[2,8]")


def scaled(name: str, skip: str) -> str:
    return f"cfg3+{skip}{'s1t1' if name == 'svd' else 'w1'}"


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("name", MODELS)
def test_cfg_before_and_after_an_stg_run_is_bit_equal(bench: Callable[..., Bench], name: str, skip: str) -> None:
    model = bench(name)
    before, clean = model.trajectory(3), state(model.denoiser)
    assert not model.guided(scaled(name, skip)).equals(before)
    assert state(model.denoiser) == clean
    assert model.trajectory(3).equals(before)


@pytest.mark.parametrize("name", MODELS)
def test_cfg_after_runs_that_failed_in_mid_trajectory_is_bit_equal(bench: Callable[..., Bench], name: str) -> None:
    model = bench(name)
    before, clean = model.trajectory(3), state(model.denoiser)
    *_, last = model.model.layer_map.layers(model.denoiser)[-1].blocks.values()
    # the last block's 4th and 5th call are a strong and a weak pass in mid-trajectory, in one order or the other
    for skip, fatal in zip(SKIPS, (4, 5, 5, 4), strict=True):
        calls = itertools.count(1)

        def fail(*_: Any, calls: Iterator[int] = calls, fatal: int = fatal) -> None:
            if next(calls) == fatal:
                raise RuntimeError("in mid-trajectory")

        handle = model.denoiser.get_submodule(last).register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="in mid-trajectory"):
            model.guided(scaled(name, skip) + "+rescale0.7", steps=3)
        handle.remove()
        assert state(model.denoiser) == clean
    assert model.trajectory(3).equals(before)


@pytest.mark.parametrize("name", MODELS)
def test_scale_zero_is_bit_equal_to_the_untouched_pipeline(bench: Callable[..., Bench], name: str) -> None:
    model = bench(name)
    untouched = model.trajectory(3)
    assert model.guided("cfg3+stg-a[8]w0").equals(untouched)
    for skip in SKIPS:  # so small that no bit changes, but the weak passes do run
        assert model.guided(f"cfg3+{skip}w1e-30").equals(untouched)


def test_weak_passes_that_weigh_nothing_leave_the_prediction_bit_equal(toy: Factorised) -> None:
    x, y = inputs(4)
    with guided(toy, Guidance.parse("cfg3+stg-a[2]s1e-30t1e-30"), MAP, batch_order="uc"):
        found = toy(x, y)
    assert toy.counts()[1][-1] == 3  # the weak passes did run
    assert torch.equal(found, toy(x, y))


@pytest.mark.parametrize("place", ["strong pass", "weak pass", "caller"])
def test_everything_is_restored_when_something_fails(toy: Factorised, place: str) -> None:
    clean, (x, y) = state(toy), inputs(2)
    expected = toy(x, y)
    toy.counts()

    def fail(module: nn.Module, args: Any) -> None:
        if toy.spatial_blocks[4].calls == {"strong pass": 1, "weak pass": 2}[place]:
            raise RuntimeError(place)

    def call() -> None:
        with guided(toy, Guidance.parse("cfg3+stg-a[2]s1"), MAP, batch_order="uc"):
            toy(x, y)
            raise RuntimeError(place)

    handle = toy.temporal_blocks[4].register_forward_pre_hook(fail) if place != "caller" else None
    with pytest.raises(RuntimeError, match=place):
        call()
    if handle:
        handle.remove()
    assert state(toy) == clean
    assert torch.equal(toy(x, y), expected)


def test_a_forward_that_another_library_replaced_is_put_back(toy: Factorised) -> None:
    block = toy.temporal_blocks[1]
    theirs = block.forward
    block.forward = lambda *args: theirs(*args)  # as accelerate's offloading does
    replaced, (x, y) = block.forward, inputs(2)
    with guided(toy, Guidance.parse("cfg3+stg-r[3]s1t1"), MAP, batch_order="uc"):
        toy(x, y)
    assert block.forward is replaced


def test_a_guided_run_can_be_repeated_within_one_context(toy: Factorised) -> None:
    x, y = inputs(4)
    with guided(toy, Guidance.parse("cfg3+stg-a[2]s1t2"), MAP, batch_order="uc"):
        first = toy(x, y)
        toy(*inputs(4, seed=9))
        assert torch.equal(toy(x, y), first)


# ---- rows and orders


def halves(toy: nn.Module, x: Tensor, y: Tensor, order: str) -> Tensor:
    swap = [2, 3, 0, 1] if order == "cu" else [0, 1, 2, 3]
    with guided(toy, Guidance.parse("cfg3+stg-a[2]s1t2"), MAP, batch_order=order):  # type: ignore[arg-type]
        return toy(x[swap], y[swap])[swap]


def test_conditional_rows_may_come_first_or_last(toy: Factorised) -> None:
    x, y = inputs(4)
    torch.testing.assert_close(halves(toy, x, y, "cu"), halves(toy, x, y, "uc"))


def test_two_calls_a_step_give_what_one_call_gives(toy: Factorised) -> None:
    x, y = inputs(4)
    with guided(toy, Guidance.parse("cfg3+stg-a[2]s1t2"), MAP, batch_order="c,u") as predictions:
        for _ in range(2):  # two steps
            c, u = toy(x[2:], y[2:]), toy(x[:2], y[:2])
            assert predictions.u is not None
    torch.testing.assert_close(torch.cat([u, c]), halves(toy, x, y, "uc"))


def test_a_batch_of_samples_equals_the_samples_alone(toy: Factorised) -> None:
    x, y = inputs(4)  # two samples: rows (0, 2) and (1, 3)
    with guided(toy, Guidance.parse("cfg3+stg-a[2]s1t2+orth"), MAP, batch_order="uc"):
        together = toy(x, y)
        for rows in ([0, 2], [1, 3]):
            torch.testing.assert_close(toy(x[rows], y[rows]), together[rows])


@pytest.mark.parametrize("kind", ["tuple", "output", "variance"])
def test_other_forms_of_output(toy: Factorised, kind: str) -> None:
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.toy = toy

        def forward(self, x: Tensor, y: Tensor) -> Any:
            out = self.toy(x, y)
            if kind == "variance":
                return torch.cat([out, out.square()], dim=1)
            return (out, "more") if kind == "tuple" else Transformer2DModelOutput(sample=out)

    x, y = inputs(4)
    layer_map = LayerMap(
        model="wrapped",
        layers=stack(spatial="toy.spatial_blocks", temporal="toy.temporal_blocks"),
        attention="attn",
        streams=("x",),
        channels=3 if kind == "variance" else None,
    )
    wrapped = Wrapped()
    with guided(wrapped, Guidance.parse("cfg3+stg-a[2]s1t2"), layer_map, batch_order="uc"):
        out = wrapped(x, y)
    sample = {"tuple": lambda: out[0], "output": lambda: out.sample, "variance": lambda: out[:, :3]}[kind]()
    assert torch.equal(sample, halves(toy, x, y, "uc"))
    if kind == "variance":
        assert torch.equal(out[:, 3:], toy(x, y).square())
    if kind == "tuple":
        assert out[1] == "more"


# ---- cost


@pytest.mark.parametrize(
    ("text", "spatial", "temporal"),
    [
        ("cfg3+stg-a[3]s1t1", [1, 1, 1, 2, 3], [1, 1, 1, 3, 3]),
        ("cfg3+stg-r[3]s1t1", [1, 1, 1, 1, 3], [1, 1, 1, 2, 3]),
        ("cfg3+stg-r[3]s1", [1, 1, 1, 1, 2], [1, 1, 1, 2, 2]),
        ("cfg3+stg-a[3]t1", [1, 1, 1, 1, 2], [1, 1, 1, 2, 2]),
        ("cfg3+stg-a[0]s1", [2, 2, 2, 2, 2], [2, 2, 2, 2, 2]),
        ("cfg3+stg-a[2,3]w1", [1, 1, 2, 2, 2], [1, 1, 2, 2, 2]),
        ("cfg3+stg-a[temporal_blocks.4]t1", [1, 1, 1, 1, 1], [1, 1, 1, 1, 2]),
        ("cfg3", [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]),
    ],
)
def test_weak_passes_compute_the_suffix_only(
    toy: Factorised, text: str, spatial: list[int], temporal: list[int]
) -> None:
    with guided(toy, Guidance.parse(text), MAP, batch_order="uc"):
        toy(*inputs(4))
    assert toy.counts() == (spatial, temporal)


def test_batched_weak_passes_run_the_suffix_once(toy: Factorised) -> None:
    with guided(toy, Guidance.parse("cfg3+stg-a[3]s1t1"), MAP, batch_order="uc", batch_weak_passes=True):
        toy(*inputs(4))
    assert toy.counts() == ([1, 1, 1, 2, 2], [1, 1, 1, 2, 2])


def test_the_weak_pass_sees_conditional_rows_only(toy: Factorised) -> None:
    rows: list[int] = []
    toy.temporal_blocks[4].register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    with guided(toy, Guidance.parse("cfg3+stg-a[3]s1"), MAP, batch_order="uc"):
        toy(*inputs(4))
    assert rows == [4 * 6, 2 * 6]


def test_recording_a_chain_keeps_one_tensor_of_the_conditional_rows(toy: Factorised) -> None:
    with guided(toy, Guidance.parse("cfg3+stg-a[4]s1"), MAP, batch_order="uc") as predictions:
        toy(*inputs(4))
    assert predictions.recorded_bytes == 2 * 3 * 6 * 8 * 4  # the conditional half of one layer's output, float32
    with guided(toy, Guidance.parse("cfg3+stg-a[4]s1t1"), MAP, batch_order="uc") as predictions:
        toy(*inputs(4))
    assert predictions.recorded_bytes == 2 * 2 * 3 * 6 * 8 * 4  # one for each weak pass


# ---- refused, in one line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cfg3+stg-a[5]s1", r"no layer '5': give a number from 0 to 4 or a path such as spatial_blocks\.0"),
        ("cfg3+stg-a[spatial_blocks]s1", "no layer 'spatial_blocks'"),
        ("cfg3+stg-a[spatial_blocks.1]s1t1", "temporal scale 1 has no temporal attention"),
        ("cfg3+stg-a[1,temporal_blocks.2]s1", "acts on layer temporal_blocks.2"),
        ("cfg3+rescale0.5", "ask the scheduler"),
        ("cfg3+stg-a[1]s1@0-0.5", "ask the scheduler"),
        ("cfg3+apg", "ask the scheduler"),
        ("cfg3+stg-r[7]u", "no layer '7'"),
    ],
)
def test_what_the_model_does_not_have_is_refused(toy: Factorised, text: str, message: str) -> None:
    with pytest.raises(StgEvalError, match=message), guided(toy, Guidance.parse(text), MAP, batch_order="uc"):
        raise AssertionError("must be refused before anything runs")


def test_published_numbers_may_start_from_one(bench: Callable[[str], Bench]) -> None:
    svd = bench("svd")
    for wrong in ("0", "17"):
        with pytest.raises(StgEvalError, match=r"from 1 to 16 or a path such as down_blocks\.0\.attentions\.0"):
            svd.guided(f"cfg3+stg-a[{wrong}]s1")
    layers = svd.model.layer_map.layers(svd.denoiser)
    assert [layers[i].path for i in (0, 6, 7, 15)] == [
        "down_blocks.0.attentions.0",
        "mid_block.attentions.0",
        "up_blocks.1.attentions.0",
        "up_blocks.3.attentions.2",
    ]


def test_layers_are_listed_in_execution_order(bench: Callable[[str], Bench]) -> None:
    svd, seen = bench("svd"), []
    expected = [path for layer in svd.model.layer_map.layers(svd.denoiser) for path in layer.blocks.values()]
    handles = [
        svd.denoiser.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: seen.append(path))
        for path in expected
    ]
    svd.trajectory(1, steps=1)
    for handle in handles:
        handle.remove()
    assert seen == expected


def test_joint_attention_has_no_spatial_scale(bench: Callable[[str], Bench]) -> None:
    with pytest.raises(StgEvalError, match=r"joint attention; write stg-r\[35\]w1"):
        bench("mochi").guided("cfg4.5+stg-r[35]s1")


@pytest.mark.parametrize(("name", "scale"), [("svd", "s1"), ("mochi", "w1"), ("ltx", "w1")])
def test_an_attention_processor_that_could_ignore_the_skip_is_refused(
    bench: Callable[[str], Bench], name: str, scale: str
) -> None:
    model = bench(name)
    layer = model.model.layer_map.layers(model.denoiser)[8 - model.model.layer_map.first]
    attention = model.denoiser.get_submodule(next(iter(layer.blocks.values()))).attn1
    stock = attention.processor

    class Exotic:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return stock(*args, **kwargs)

    attention.processor = Exotic()
    try:
        with pytest.raises(StgEvalError, match="processor Exotic is unknown"):
            model.guided(f"cfg3+stg-a[8]{scale}")
    finally:
        attention.processor = stock


def test_fused_projections_are_refused(bench: Callable[[str], Bench]) -> None:
    wan = bench("wan")
    attention = wan.denoiser.blocks[8].attn1
    attention.fused_projections = True
    try:
        for method in ("stg-a", "seg"):
            with pytest.raises(StgEvalError, match="unfuse_qkv_projections"):
                wan.guided(f"cfg3+{method}[8]w1")
    finally:
        del attention.fused_projections


def test_seg_needs_a_grid(toy: Factorised) -> None:
    bare = LayerMap(model="bare", layers=MAP.layers, attention="attn", streams=("x",))
    with (
        pytest.raises(StgEvalError, match="layer map of bare"),
        guided(toy, Guidance.parse("cfg3+seg[2]s1"), bare, batch_order="uc"),
    ):
        pass


def test_seg_with_infinite_blur_gives_every_query_the_mean_one(toy: Factorised) -> None:
    x, y = inputs(2)
    with guided(toy, Guidance.parse("cfg1+seg[4]s1"), MAP, batch_order="c") as predictions:
        toy(x, y)
    found = predictions.weak["spatial"]

    def mean(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        q, k, v = out.chunk(3, -1)
        return torch.cat([q.mean(1, keepdim=True).expand_as(q), k, v], -1)

    handle = toy.spatial_blocks[4].attn.qkv.register_forward_hook(mean)
    expected = toy(x, y)
    handle.remove()
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, toy(x, y))
