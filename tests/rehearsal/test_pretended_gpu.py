"""The pretended GPU refuses what a GPU refuses, and the rehearsal finds a fault of each kind that is planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import pretend

from stg_eval.generators.tiny import generator as tiny
from stg_eval.generators.tiny.model import TinyDiT


@pytest.fixture
def gpus() -> Iterator[Any]:
    with pretend(devices=2) as found:
        yield found


# ---- the device


def test_values_are_those_of_the_cpu() -> None:
    x, layer = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.nn.Linear(8, 3)
    expected = layer(x).softmax(-1)
    with pretend():
        got = layer.to("cuda")(x.to("cuda")).softmax(-1)
        assert got.device == torch.device("cuda:0")
        assert torch.equal(got.cpu(), expected)
        assert got.cpu().device.type == "cpu"


def test_views_and_changes_in_place_reach_the_same_values(gpus: Any) -> None:
    x = torch.zeros(2, 3, device="cuda")
    x[0].add_(1)
    x.t()[2, 1] = 7
    x.unsqueeze_(0)
    assert x.shape == (1, 2, 3)
    assert x.tolist() == [[[1, 1, 1], [0, 0, 7]]]
    assert torch.Tensor([x[0, 0, 0], x[0, 1, 2]]).tolist() == [1, 7]  # a constructor below the dispatcher
    assert torch.tensor([float(value) for value in x[0, 1]]).tolist() == [0, 0, 7]


def test_numbers_on_the_cpu_mix_with_a_device_as_on_a_gpu(gpus: Any) -> None:
    x = torch.arange(3.0, device="cuda")
    assert (x * torch.tensor(2.0)).tolist() == [0, 2, 4]
    assert x[torch.tensor([2, 0])].tolist() == [2, 0]
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3) * x.sum()  # a number on the device does not come to the CPU


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x + x.to("cuda:1"),
        lambda x: x.to("cuda:2"),
        lambda x: torch.randn(3, device="cuda", generator=torch.Generator()),
        lambda x: x.normal_(generator=torch.Generator()),
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: torch.ops.mkldnn._linear_pointwise(x[None], x[None], None, "none", [], ""),
    ],
)
def test_what_a_gpu_refuses_is_refused(gpus: Any, fault: Callable[[torch.Tensor], Any]) -> None:
    x = torch.zeros(3, device="cuda")
    with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        fault(x)


def test_everything_is_as_before_afterwards() -> None:
    before = torch.cuda.is_available(), torch.cuda.device_count
    with pretend():
        assert torch.cuda.is_available()
    assert (torch.cuda.is_available(), torch.cuda.device_count) == before
    assert type(torch.nn.Linear(2, 2).to(torch.float64).weight.data) is torch.Tensor


# ---- planted faults


def _constant_of_the_cpu(self: Any, latents: Any, timestep: Any, labels: Any) -> Any:
    return FORWARD(self, latents * torch.tensor([1.0, 1.0, 1.0])[:, None, None, None], timestep, labels)


def _hard_coded_device(self: Any, latents: Any, timestep: Any, labels: Any) -> Any:
    torch.zeros(1, device="cuda")  # mixes with nothing: only the device that it lies on tells
    return FORWARD(self, latents, timestep, labels)


def _generator_of_the_cpu(self: Any, latents: Any, timestep: Any, labels: Any) -> Any:
    noise = torch.randn(latents.shape, generator=torch.Generator(), device=latents.device)
    return FORWARD(self, latents + 0 * noise, timestep, labels)


def _dtype_not_promoted(self: Any, latents: Any, timestep: Any, labels: Any) -> Any:
    return FORWARD(self, latents * torch.ones(1, device=latents.device), timestep, labels)


def _numpy_on_the_device(latents: Any) -> Any:
    return [(latents[0] * 255).byte().numpy()]


FORWARD = TinyDiT.forward
FAULTS = {
    "constant": (TinyDiT, "forward", _constant_of_the_cpu, "same device"),
    "generator": (TinyDiT, "forward", _generator_of_the_cpu, "generator"),
    "numpy": (tiny, "_frames", _numpy_on_the_device, "numpy"),
    "hard-coded": (TinyDiT, "forward", _hard_coded_device, "cuda:0"),
    "dtype": (TinyDiT, "forward", _dtype_not_promoted, "dtype"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_the_rehearsal_finds_a_planted_fault(
    monkeypatch: pytest.MonkeyPatch, small_request: Any, rehearse: Any, on_cpu: Any, kind: str
) -> None:
    where, name, fault, said = FAULTS[kind]
    request = small_request("tiny", "stg", "bfloat16" if kind == "dtype" else "float32")
    monkeypatch.setattr(where, name, fault)
    with pytest.raises((RuntimeError, TypeError, AssertionError), match=said):
        rehearse(request)
    monkeypatch.undo()
    rehearse(request)
