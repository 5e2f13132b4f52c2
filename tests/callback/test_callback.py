"""A training with evaluations in it is the training without them, bit for bit; an evaluation keeps to its seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from stg_eval.callback import Evaluate, budget
from stg_eval.callback.budget import CAREFUL, Budget
from stg_eval.callback.untouched import digest, untouched
from stg_eval.generators.tiny.model import TinyDiT
from stg_eval.generators.tiny.weights import WEIGHTS
from stg_eval.storage import results
from stg_eval.types import StgEvalError

FEW: dict[str, Any] = {"num_inference_steps": 1}


@pytest.fixture
def network() -> TinyDiT:
    """The embedded model, as a training might leave it between two steps: a frozen part, a part in eval mode."""
    network = TinyDiT()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    network.spatial_blocks[0].requires_grad_(False)
    network.temporal_blocks[1].eval()
    return network


@pytest.fixture
def evaluating(tmp_path: Path) -> Callable[..., Evaluate]:
    def make(live: Any, **changes: Any) -> Evaluate:
        given = {
            "model": "tiny", "suite": "demo", "every": 2, "seconds": 3600, "output": tmp_path / "training",
            "guidance": ["cfg"], "metrics": ["accuracy_sprites"], "settings": FEW,
        }  # fmt: skip
        return Evaluate(live, **given | changes)

    return make


def _everything(network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> list[Any]:
    """All that a training goes on from, in a form that compares."""
    grads = [None if p.grad is None else p.grad.numpy().tobytes() for p in network.parameters()]
    cudnn = torch.backends.cudnn
    state = optimizer.state_dict()["state"] if optimizer else {}
    return [
        {name: value.numpy().tobytes() for name, value in network.state_dict().items()},
        grads,
        [p.requires_grad for p in network.parameters()],
        [module.training for module in network.modules()],
        [{name: v.numpy().tobytes() for name, v in one.items()} for one in state.values()],
        torch.get_rng_state().numpy().tobytes(),
        str(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, torch.get_float32_matmul_precision()),
        (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype(), torch.get_num_threads()),
        torch.are_deterministic_algorithms_enabled(),
    ]


def _train(network: TinyDiT, steps: int, evaluate: Callable[[int], bool] | None) -> list[Any]:
    """Noise of torch's, classes of numpy's, dropped labels of Python's global generator; AdamW with gradients that are
    still there when the evaluation comes."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        labels = torch.from_numpy(np.random.randint(0, 13, 2))  # noqa: NPY002
        latents = torch.randn(2, 3, 8, 16, 16) * (1 + random.random())
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.mse_loss(network(latents, torch.rand(2), labels).float(), latents)
            loss.backward()
            if evaluate:
                evaluate(step)
        optimizer.step()
    return _everything(network, optimizer)


def test_training_with_evaluations_is_the_training_without_them(
    network: TinyDiT, evaluating: Callable[..., Evaluate], clock: Clock
) -> None:
    import copy

    other = copy.deepcopy(network)
    clock.now, clock.cost = 0.0, 3.0
    evaluate = evaluating(other, seconds=5.0)
    alone = _train(network, 4, None)
    assert _train(other, 4, evaluate) == alone
    assert [(one.step, one.pairs) for one in evaluate.history] == [(2, 1), (4, 1)]


def test_whatever_the_block_does_or_raises_everything_is_put_back(network: TinyDiT) -> None:
    F.mse_loss(
        network(torch.randn(1, 3, 8, 16, 16), torch.rand(1), torch.tensor([3])), torch.zeros(1, 3, 8, 16, 16)
    ).backward()
    before = _everything(network)

    def meddle() -> None:
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
        torch.randn(3), np.random.rand(), random.random()  # noqa: NPY002
        network.train().requires_grad_(True)
        network.zero_grad()
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), untouched(network):
        meddle()
    assert _everything(network) == before


def test_making_the_callback_draws_nothing(network: TinyDiT, evaluating: Callable[..., Evaluate]) -> None:
    before = _everything(network)
    evaluating(network)
    assert _everything(network) == before


def test_evaluation_is_a_run_of_its_pairs(
    network: TinyDiT, evaluating: Callable[..., Evaluate], run_cli: Callable[..., Any], capsys: Any, clock: Clock
) -> None:
    evaluate = evaluating(network, seconds=10.0, guidance=["cfg", "stg"])
    assert not evaluate(2)
    (done,) = evaluate.history
    told = capsys.readouterr().err
    assert f"step 2: {done.pairs} pairs in {done.seconds:.2f} s of 10 s" in told
    assert done.path is not None
    found = results.load(done.path)
    assert len(found.scores) == 2 * done.pairs
    assert found.run.weights == f"training@{digest(network)}"
    assert "embedded@" not in found.run.to_json(), "the weights of a training are not those that ship"
    assert run_cli("show", done.path).code == 0


def test_same_clips_are_shown_at_every_step(
    network: TinyDiT, evaluating: Callable[..., Evaluate], clock: Clock
) -> None:
    evaluate = evaluating(network, seconds=10.0)
    evaluate(2)
    with torch.no_grad():
        network.patch_out.weight.mul_(1.001)
    clock.cost *= 2  # the machine is busier: fewer pairs, of the same order
    evaluate(4)
    first, second = (results.load(one.path).scores[["case", "seed"]].to_numpy().tolist() for one in evaluate.history)
    assert 1 < len(second) < len(first)
    assert second == first[: len(second)]
    assert "against step 2" in evaluate.history[1].line


def test_ruined_weights_stop_the_training_and_equal_ones_do_not(
    network: TinyDiT, evaluating: Callable[..., Evaluate], clock: Clock
) -> None:
    evaluate = evaluating(network, seconds=16.0, patience=2, settings={"num_inference_steps": 4})
    assert not evaluate(2)
    assert not evaluate(4), "the same weights are no regression"
    with torch.no_grad():
        network.patch_out.weight.zero_()
    assert not evaluate(6), "patience is two"
    assert not evaluate(7), "not due"
    with torch.no_grad():
        network.patch_out.weight.add_(1e-6)
    assert evaluate(8)
    assert [one.worse for one in evaluate.history] == [(), (), *[("cfg accuracy_sprites",)] * 2]


def test_failure_costs_the_evaluation_only(
    network: TinyDiT, evaluating: Callable[..., Evaluate], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evaluating(network)
    before = _everything(network)
    monkeypatch.setattr("stg_eval.generators.tiny.generator.TinyGenerator.generate", lambda *_: 1 / 0)
    monkeypatch.setattr("stg_eval.callback.evaluate.running.collect", lambda *_: 1 / 0)
    assert not evaluate(2)
    assert "step 2: 0 pairs" in capsys.readouterr().err
    assert _everything(network) == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": ["fvd_sprites"]}, "fvd_sprites cannot be told from the few clips"),
        ({"metrics": ["psnr"]}, "psnr cannot be told from the few clips"),
        ({"seconds": 0}, "seconds more than 0"),
        ({"every": 0}, "every and patience"),
        ({"model": "ltx", "suite": "demo"}, "ltx"),
        ({"track": "neptune"}, "unknown tracker"),
    ],
)
def test_what_could_not_be_evaluated_is_refused_at_once(
    network: TinyDiT, evaluating: Callable[..., Evaluate], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(StgEvalError, match=told):
        evaluating(network, **changes)


def test_tracker_gets_every_step_of_one_run(
    network: TinyDiT, evaluating: Callable[..., Evaluate], tmp_path: Path, clock: Clock
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluate = evaluating(network, seconds=5.0, track="tensorboard", track_output=str(tmp_path / "board"))
    evaluate(2)
    with torch.no_grad():
        network.patch_out.weight.mul_(1.01)
    evaluate(4)
    events = EventAccumulator(str(tmp_path / "board" / "demo-tiny" / "training" / "cfg")).Reload()
    assert [event.step for event in events.Tensors("accuracy_sprites")] == [2, 4]


def test_pipeline_in_training_keeps_its_scheduler(
    evaluating: Callable[..., Evaluate], tmp_path: Path, clock: Clock
) -> None:
    from stg_eval import generators
    from stg_eval.generators.random_weights import seeded

    model = generators.get("ltx")
    pipeline = seeded("random-weights(seed=0)", model.small)
    pipeline.vae.requires_grad_(False)
    pipeline.text_encoder.requires_grad_(False)
    pipeline.transformer.train()
    pipeline.scheduler.set_timesteps(7, mu=1.0)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    before, scheduler = _everything(pipeline.transformer), pipeline.scheduler
    timesteps = scheduler.timesteps.clone()
    small = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2}
    clock.cost = 3.0
    evaluate = evaluating(
        pipeline, model="ltx", suite=tmp_path / "prompts.txt", seconds=5.0, settings=small,
        guidance=["none"], metrics=["temporal_flickering"],
    )  # fmt: skip
    evaluate(2)
    assert evaluate.history[0].pairs == 1, evaluate.history[0].line
    assert pipeline.scheduler is scheduler
    assert torch.equal(scheduler.timesteps, timesteps)
    assert _everything(pipeline.transformer) == before


def test_lightning_trains_the_same_and_stops_where_the_gate_says(network: TinyDiT) -> None:
    lightning = pytest.importorskip("pytorch_lightning")
    import copy

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, network: TinyDiT) -> None:
            super().__init__()
            self.network, self.automatic_optimization = network, True

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            return F.mse_loss(self.network(torch.randn_like(batch), torch.rand(1), torch.tensor([1])), batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([p for p in self.network.parameters() if p.requires_grad], lr=1e-3)

    class Scripted:
        """Stands for the gate: says stop at step 4."""

        def __init__(self) -> None:
            self.steps: list[int] = []

        def due(self, step: int) -> bool:
            return step % 2 == 0

        def __call__(self, step: int) -> bool:
            self.steps.append(step)
            return step == 4

    def train(network: TinyDiT, callbacks: list[Any], steps: int) -> list[Any]:
        torch.manual_seed(0)
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, callbacks=callbacks,
            enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
        )  # fmt: skip
        batches = torch.utils.data.DataLoader([torch.zeros(3, 8, 16, 16)] * 20, batch_size=1)
        trainer.fit(Module(network), batches)
        assert trainer.global_step == 4
        return [value.numpy().tobytes() for value in network.state_dict().values()]

    from stg_eval.callback.lightning import callback

    other, scripted = copy.deepcopy(network), Scripted()
    assert train(other, [callback(scripted)], 9) == train(network, [], 4)
    assert scripted.steps == [2, 4], "once a step, however many batches accumulate"


@dataclass
class Clock:
    """Seconds of a made-up machine: a pair costs `cost`, what comes behind costs `closing`."""

    now: float = 0.0
    cost: float = 1.0
    closing: float = 0.5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from stg_eval.pipeline import run as running

    clock = Clock()
    fill, collect = running.fill, running.collect

    def filling(*args: Any) -> Any:
        clock.now += clock.cost
        return fill(*args)

    def collecting(*args: Any) -> Any:
        clock.now += clock.closing
        return collect(*args)

    monkeypatch.setattr(running, "fill", filling)
    monkeypatch.setattr(running, "collect", collecting)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: clock.now)
    return clock


def test_evaluation_takes_as_many_pairs_as_fit_and_never_more(
    network: TinyDiT, evaluating: Callable[..., Evaluate], clock: Clock
) -> None:
    evaluate = evaluating(network, seconds=10.0)
    clock.now += 100.0  # the training itself
    evaluate(2)
    with torch.no_grad():
        network.patch_out.weight.mul_(1.001)
    evaluate(4)
    first, second = evaluate.history
    assert (first.pairs, first.seconds) == (8, 8.5)  # room is left for a dearer pair and twice what comes behind
    assert (second.pairs, second.seconds) == (8, 8.5)
    clock.cost = 30.0
    with torch.no_grad():
        network.patch_out.weight.mul_(1.001)
    evaluate(6)
    assert evaluate.history[2].pairs == 1, "a machine that slows down thirtyfold costs one pair, no more"
    clock.cost = 1.0
    with torch.no_grad():
        network.patch_out.weight.mul_(1.001)
    evaluate(8)
    assert evaluate.history[3].pairs == 8, "and is forgotten when it is as quick again"


def test_seconds_that_no_pair_fits_into_are_refused_before_the_training(
    network: TinyDiT, evaluating: Callable[..., Evaluate], clock: Clock
) -> None:
    with pytest.raises(StgEvalError, match=r"a pair takes 1 s, .* 0\.5 s: more than seconds=1; give more"):
        evaluating(network, seconds=1.0)


def test_trial_leaves_nothing_behind(
    network: TinyDiT, evaluating: Callable[..., Evaluate], tmp_path: Path, capsys: Any
) -> None:
    evaluating(network)
    assert list((tmp_path / "training").iterdir()) == []
    assert "evaluations of 3600 s every 2 steps: a pair takes" in capsys.readouterr().err


@given(
    seconds=st.floats(1, 100),
    costs=st.lists(st.floats(0.01, 5), min_size=200, max_size=200),
    closing=st.floats(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_budget_is_kept_where_costs_vary_less_than_the_margin(
    seconds: float, costs: list[float], closing: float
) -> None:
    """Costs rise by at most a quarter over the dearest pair so far; the first pair alone may be too dear."""
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget.time, "perf_counter", lambda: now)
        one = Budget(seconds)
        one.closing = closing
        one.begin()
        made, dearest = 0, costs[0]
        while made < len(costs) and (not made or one.fits(first=False)):
            one.start()
            now += min(costs[made], CAREFUL * dearest)
            dearest = max(dearest, min(costs[made], CAREFUL * dearest))
            made += 1
            one.made(first=made == 1)
        now += closing
    assert made == 1 or now <= seconds * (1 + 1e-9)
