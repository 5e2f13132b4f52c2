"""Golden data of the original Open-Sora 1.2 code on small random weights, and the small models they belong to."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stg_eval.generators.opensora.pipeline import OpenSoraPipeline, rectified_flow
from stg_eval.generators.opensora.small import small_pipeline
from stg_eval.generators.opensora.stdit3 import STDiT3
from stg_eval.generators.opensora.vae import OpenSoraVAE

GOLDEN = Path(__file__).parent / "golden"


@cache
def _golden(name: str) -> Any:
    if name.endswith(".json"):
        return json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return load_file(GOLDEN / name)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """A golden file by its name: tensors by key, or JSON."""
    return _golden


@pytest.fixture
def stdit3() -> STDiT3:
    config = _golden("configs.json")["stdit3"]
    accepted = inspect.signature(STDiT3.__init__).parameters
    model = STDiT3(**{name: value for name, value in config.items() if name in accepted})
    model.load_state_dict(_golden("stdit3_weights.safetensors"))
    return model.requires_grad_(False).eval()


@pytest.fixture
def vae() -> OpenSoraVAE:
    configs = _golden("configs.json")
    model = OpenSoraVAE(vae_2d=configs["vae_2d"], vae_temporal=configs["vae_temporal"])
    model.load_state_dict(_golden("vae_weights.safetensors"))
    return model.requires_grad_(False).eval()


@pytest.fixture
def golden_pipe(stdit3: STDiT3, vae: OpenSoraVAE) -> OpenSoraPipeline:
    pipe = OpenSoraPipeline(None, None, stdit3, vae, rectified_flow())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def _small_pipe() -> OpenSoraPipeline:
    pipe = small_pipeline("random-weights(seed=0)", torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def small_pipe(_small_pipe: OpenSoraPipeline) -> Iterator[OpenSoraPipeline]:
    """Built once; a test's hooks do not outlive it."""
    yield _small_pipe
    _small_pipe.transformer._forward_pre_hooks.clear()


@pytest.fixture
def inputs() -> Callable[[str], dict[str, Any]]:
    """Arguments of STDiT3.forward for a golden case; the original repeats masks and fps to the batch by itself."""

    def build(case: str) -> dict[str, Any]:
        prefix = f"{case}/in."
        given = {k.removeprefix(prefix): v for k, v in _golden("stdit3_cases.safetensors").items() if prefix in k}
        rows = len(given["x"])
        repeated = {k: v.repeat(rows // len(v), *[1] * (v.ndim - 1)) for k, v in given.items() if k in ("mask", "fps")}
        return {
            "hidden_states": given["x"],
            "timestep": given["timestep"],
            "encoder_hidden_states": given["y"].squeeze(1),
            "encoder_attention_mask": repeated.get("mask"),
            "fps": repeated["fps"],
            "height": int(given["height"][0]),
            "width": int(given["width"][0]),
            "frame_mask": given.get("x_mask"),
        }

    return build
