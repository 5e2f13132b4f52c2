"""Linear layers by oneDNN are the layers they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stg_eval.metrics.linear import available, use_onednn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96), nn.Sequential(nn.GELU(), nn.Linear(96, 40, bias=False))).eval()


@pytest.mark.parametrize("shape", [(48,), (5, 48), (2, 7, 48), (0, 48)])
def test_output_is_that_of_float64_within_float32_rounding(shape: tuple[int, ...]) -> None:
    if not available():
        pytest.skip("this torch has no oneDNN")
    x, plain, fast = torch.randn(shape), network().double(), network()
    use_onednn(fast, "cpu")
    assert not any(type(module) is nn.Linear for module in fast.modules())
    with torch.inference_mode():
        assert fast(x).shape == (*shape[:-1], 40)
        torch.testing.assert_close(fast(x).double(), plain(x.double()), rtol=0, atol=1e-6)


def test_parameters_keep_their_names() -> None:
    fast = network()
    use_onednn(fast, "cpu")
    assert fast.state_dict().keys() == network().state_dict().keys()


def test_networks_on_other_devices_stay_as_they_are() -> None:
    other = network()
    use_onednn(other, "cuda:1")
    assert [type(m) for m in other.modules()] == [type(m) for m in network().modules()]
