"""Time of a guided step: CFG alone, weak passes in full, weak passes that share the prefix; same inputs, one process.

    python benchmarks/guidance_speed.py                  mid-size configurations on the CPU, float32
    python benchmarks/guidance_speed.py --device cuda    the published configurations with random weights, bfloat16
    add --json for one object, name -> numbers

Variants take turns within each repeat, so that a busy machine slows all of them alike; medians are printed. Ratios are
over CFG alone; on the CPU those of processor time stand beside those of the clock. recorded is what the shared prefix
holds between strong and weak pass; peak (in --json) is the allocator's on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stg_eval import generators
from stg_eval.generators.guidance import LayerMap, guided
from stg_eval.types import Guidance


@dataclass(frozen=True)
class Case:
    """One model at one size under one guidance."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    layer_map: LayerMap
    guidance: str


VARIANTS: dict[str, dict[str, bool] | None] = {
    "cfg": None,
    "full passes": {"share_prefix": False},
    "shared": {},
    "shared, batched": {"batch_weak_passes": True},
}


def svd(full: bool) -> nn.Module:
    from diffusers import UNetSpatioTemporalConditionModel

    if full:
        return UNetSpatioTemporalConditionModel()
    return UNetSpatioTemporalConditionModel(
        block_out_channels=(64, 64, 128, 128), num_attention_heads=(2, 2, 4, 4), cross_attention_dim=256
    )


def svd_inputs(full: bool) -> dict[str, Any]:
    frames, height, width, text = (25, 72, 128, 1024) if full else (4, 32, 32, 256)
    return {
        "sample": torch.randn(2, frames, 8, height, width),
        "timestep": torch.tensor(1.0),
        "encoder_hidden_states": torch.randn(2, 1, text),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]] * 2),
    }


def mochi(full: bool) -> nn.Module:
    from diffusers import MochiTransformer3DModel

    if full:
        return MochiTransformer3DModel()
    return MochiTransformer3DModel(
        num_attention_heads=4, attention_head_dim=48, pooled_projection_dim=96, text_embed_dim=256
    )


def mochi_inputs(full: bool) -> dict[str, Any]:
    frames, height, width, text = (14, 60, 60, 4096) if full else (2, 24, 24, 256)  # 81 frames of 480 x 480 where full
    return {
        "hidden_states": torch.randn(2, 12, frames, height, width),
        "encoder_hidden_states": torch.randn(2, 256, text),
        "timestep": torch.full((2,), 500.0),
        "encoder_attention_mask": (torch.arange(256) < 40).expand(2, -1),
    }


def cases(full: bool) -> list[Case]:
    svd_map, mochi_map = generators.get("svd").layer_map, generators.get("mochi").layer_map

    def svd_case(name: str, guidance: str) -> Case:
        return Case(name, lambda: svd(full), lambda: svd_inputs(full), svd_map, guidance)

    def mochi_case(name: str, guidance: str) -> Case:
        return Case(name, lambda: mochi(full), lambda: mochi_inputs(full), mochi_map, guidance)

    return [
        svd_case("svd-8-spatial-temporal", "cfg3+stg-a[8]s2t2"),
        svd_case("svd-8-spatial", "cfg3+stg-a[8]s2"),
        mochi_case("mochi-stg-r-35", "cfg4.5+stg-r[35]w1"),
        mochi_case("mochi-stg-a-35", "cfg4.5+stg-a[35]w2"),
    ]


@torch.inference_mode()
def measure(case: Case, device: str, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Median seconds of each variant, its ratio to CFG, and what recording holds."""
    torch.manual_seed(0)
    with torch.device(device):
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # a full model never exists in float32
        try:
            model, inputs = case.model().eval().to(device), case.inputs()
        finally:
            torch.set_default_dtype(default)
    guidance = Guidance.parse(case.guidance)
    weak_passes = 2 if guidance.spatial_scale and guidance.temporal_scale else 1
    variants = {name: options for name, options in VARIANTS.items() if weak_passes > 1 or name != "shared, batched"}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    processor: dict[str, list[float]] = {name: [] for name in variants}
    row: dict[str, Any] = {"recorded_mib": 0.0}
    for repeat in range(repeats + 1):  # the first is warm-up
        for name, options in variants.items():
            used = Guidance(cfg_scale=guidance.cfg_scale) if options is None else guidance
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            with guided(model, used, case.layer_map, batch_order="uc", **(options or {})) as predictions:
                _wait(device)
                start, used_before = time.perf_counter(), time.process_time()
                model(**inputs)
                _wait(device)
                if repeat:
                    seconds[name].append(time.perf_counter() - start)
                    processor[name].append(time.process_time() - used_before)
            if device != "cpu":
                row[f"peak_gib {name}"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
            if name == "shared":
                row["recorded_mib"] = round(predictions.recorded_bytes / 2**20, 2)
    row["seconds"] = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    row["ratio"] = {name: round(value / row["seconds"]["cfg"], 3) for name, value in row["seconds"].items()}
    if device == "cpu":
        used_cpu = {name: statistics.median(values) for name, values in processor.items()}
        row["processor_ratio"] = {name: round(value / used_cpu["cfg"], 3) for name, value in used_cpu.items()}
    return row


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one object, name -> numbers")
    options = parser.parse_args()
    full = options.device != "cpu"
    dtype = torch.bfloat16 if full else torch.float32
    rows = {case.name: measure(case, options.device, dtype, options.repeats) for case in cases(full)}
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'case':26} {'variant':16} {'seconds':>9} {'over CFG':>9} {'processor':>10} {'recorded':>11}")
    for name, row in rows.items():
        for variant, value in row["seconds"].items():
            recorded = f"{row['recorded_mib']:.1f} MiB" if variant.startswith("shared") else ""
            processor = f"{row['processor_ratio'][variant]:.3f}" if "processor_ratio" in row else ""
            print(f"{name:26} {variant:16} {value:9.4f} {row['ratio'][variant]:9.3f} {processor:>10} {recorded:>11}")


if __name__ == "__main__":
    main()
