"""Seconds of a denoising step of Open-Sora 1.2 under CFG and under CFG + STG, prefix shared and not; peak memory.

    python benchmarks/opensora_steps.py                     released size, 240 x 426, 51 frames, bfloat16, on a GPU
    python benchmarks/opensora_steps.py --smoke             a small model on the CPU, to see that the script works

Weights are random, which changes no timing; the text encoder, which takes no part in a step, is a small one.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import torch

from stg_eval.generators.guidance import guided
from stg_eval.generators.opensora.card import CARD, MODEL
from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
from stg_eval.generators.opensora.sizes import latent_size
from stg_eval.generators.opensora.small import small_pipeline
from stg_eval.types import Guidance

ROWS: dict[str, tuple[str, dict[str, bool]]] = {
    "CFG": ("cfg", {}),
    "CFG + STG-A, shared prefix": ("stg", {}),
    "CFG + STG-A, shared, weak passes as one batch": ("stg", {"batch_weak_passes": True}),
    "CFG + STG-A, full weak passes": ("stg", {"share_prefix": False}),
    "CFG + STG-R, shared prefix": ("stg-r", {}),
}


def step_seconds(
    pipe: OpenSoraPipeline, guidance: Guidance, steps: int, size: dict[str, int], **options: bool
) -> float:
    """Median seconds of a step; the first, which warms up, is left out."""
    clock: list[float] = []

    def tick(pipe: object, i: int, timestep: object, tensors: dict) -> dict:
        if pipe.device.type == "cuda":
            torch.cuda.synchronize()
        clock.append(time.perf_counter())
        return tensors

    with guided(pipe.transformer, guidance, MODEL.layer_map, batch_order="cu", **options):
        pipe(
            "a cat",
            guidance_scale=guidance.cfg_scale,
            num_inference_steps=steps + 1,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            callback_on_step_end=tick,
            **size,
        )
    return statistics.median(after - before for before, after in itertools.pairwise(clock))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--smoke", action="store_true", help="small model, CPU")
    parser.add_argument("--steps", type=int, default=10, help="steps to time")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        parser.error("the released size needs a GPU; --smoke runs a small model on the CPU")
    device = "cpu" if options.smoke else "cuda"
    if options.smoke:
        pipe = small_pipeline("random-weights(seed=0)", torch.float32)
        size = {name: int(MODEL.smoke[name]) for name in ("height", "width", "num_frames")}
    else:
        pipe = small_pipeline("random-weights(full,seed=0)", torch.bfloat16)
        size = {"height": CARD.height, "width": CARD.width, "num_frames": CARD.num_frames}
    pipe.to(device).set_progress_bar_config(disable=True)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {pipe.transformer.dtype}, {size}, {options.steps} steps")
    print(f"{'guidance':46} {'s a step':>9} {'over CFG':>9} {'peak GB':>8}")
    base = 0.0
    for row, (preset, how) in ROWS.items():
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = step_seconds(pipe, CARD.presets[preset].guidance, options.steps, size, **how)
        base = base or seconds
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:8.2f}" if device == "cuda" else f"{'-':>8}"
        print(f"{row:46} {seconds:9.3f} {seconds / base:9.3f} {peak}", flush=True)
    start = time.perf_counter()
    latents = torch.randn(1, 4, *latent_size(**size), device=device)
    pipe.decode_latents(latents, size["num_frames"])
    print(f"decoding the clip: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
