"""Every model on a pretended GPU: each dtype, each way of offloading, on the second of two devices.

`make rehearsal` runs them for every model; the default tests for a few. Random networks make noise and say nothing of
quality: in float32 a clip is that of the CPU, in half precision it must be finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stg_eval import generators, methods
from stg_eval.generators.model import DTYPES
from stg_eval.types import Request

WAYS = {"float32": "none", "bfloat16": "model", "float16": "sequential"}
"""dtype -> how the model is offloaded in it: every dtype and every way once. "model" comes with VAE tiling."""
ALWAYS = {("svd", "float32"), ("ltx", "bfloat16"), ("opensora", "float16"), *(("tiny", dtype) for dtype in DTYPES)}
"""Of the combinations, those that the default tests run."""

Make = Callable[..., Request]
Rehearse = Callable[..., np.ndarray]


def combinations() -> list[Any]:
    found = []
    for model in generators.models():
        for dtype, way in WAYS.items():
            one = (model.card.name, dtype, way if "offload" in model.card.settings else "none")
            marks = [] if one[:2] in ALWAYS else [pytest.mark.rehearsal]
            found.append(pytest.param(*one, marks=marks, id="-".join(one)))
    return found


@pytest.mark.parametrize(("name", "dtype", "offload"), combinations())
def test_a_clip_is_made_on_the_device_asked_for(
    small_request: Make,
    rehearse: Rehearse,
    on_cpu: Callable[[Request], np.ndarray],
    name: str,
    dtype: str,
    offload: str,
) -> None:
    settings: dict[str, Any] = {} if offload == "none" else {"offload": offload}
    if offload == "model" and "vae_tiling" in generators.card(name).settings:
        settings["vae_tiling"] = True
    request = small_request(name, "stg", dtype, **settings)
    frames = rehearse(request)
    if dtype == "float32":
        expected = on_cpu(small_request(name, "stg", dtype))
        assert np.abs(frames.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "guidance",
    [
        "none",
        *(f"cfg3+{name}[2]s1t1" for name in methods.SKIPS if name != "seg"),
        "cfg3+seg[2]s1",
        *(f"cfg3+{name}" for name in methods.PREDICTIONS),
        "cfg3+stg-a[2]s1t1+orth+rescale0.7",
        "cfg3+stg-r[2]u@0-0.5",
        "cfg2+stg-a[2]s1+restart[0.25,0.5]x1",
        "cfg3,2@0-0.5-1+stg-a[2]s1@n1-0.2",
    ],
)
def test_every_method_runs_on_the_device(
    small_request: Make, rehearse: Rehearse, on_cpu: Callable[[Request], np.ndarray], guidance: str
) -> None:
    request = small_request("tiny", guidance)
    assert np.abs(rehearse(request).astype(int) - on_cpu(request)).max() <= 1


@pytest.mark.parametrize(
    "name", ["ltx", *(pytest.param(n, marks=pytest.mark.rehearsal) for n in ("svd", "mochi", "wan"))]
)
def test_blocks_that_are_brought_in_one_by_one_make_the_same_clip(
    small_request: Make, rehearse: Rehearse, on_cpu: Callable[[Request], np.ndarray], name: str
) -> None:
    frames = rehearse(small_request(name, "stg", offload="group"))
    assert np.abs(frames.astype(int) - on_cpu(small_request(name, "stg"))).max() <= 1
