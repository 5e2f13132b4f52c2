"""Forecasts what a run would make, reuse and cost. Reads the store if there is one; writes and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stg_eval import generators, weights
from stg_eval.generators import ModelCard
from stg_eval.pipeline import memory, run
from stg_eval.pipeline.plan import Plan
from stg_eval.storage.store import Store
from stg_eval.suites import open_dataset
from stg_eval.types import Request

GPUS = {"A100": 312.0, "H100": 989.0, "RTX 4090": 165.0}
"""Dense bf16 TFLOP/s of the makers' data sheets."""
UTILISATION = 0.4
"""Share of that which a video transformer typically reaches: an assumption, printed with the estimate."""
BITS_PER_PIXEL = {"h264": 0.25, "vp9": 6.0}
"""Rough size of stored clips, for the disk estimate."""


def forecast(plan: Plan, store_path: Path) -> str:
    """Forecast a run as Markdown: clips to make and to reuse, TFLOP, GPU-hours, disk, and what is still missing."""
    lines = [
        f"Dry run: {plan.suite.title} with {plan.card.title}, nothing is made.",
        "",
        "| guidance | clips | in the store | to make | TFLOP a clip | TFLOP |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    clips = _distinct(plan.requests[plan.baseline])  # all variants show the same
    absent = _absent(plan, store_path) or dict.fromkeys(plan.requests, clips)
    total = pixels = 0.0
    for variant in plan.variants:
        new, first = absent[variant.name], plan.requests[variant.name][0]
        each = plan.tflops(variant.name)
        total += each * new
        pixels += new * first.num_frames * first.height * first.width
        signature = f"`{variant.guidance}`"
        name = signature if variant.name == str(variant.guidance) else f"{variant.name} ({signature})"
        lines.append(f"| {name} | {clips:,} | {clips - new:,} | {new:,} | {each:,.1f} | {each * new:,.0f} |")
    to_make = sum(absent.values())
    bits = BITS_PER_PIXEL["vp9" if plan.card.encoding.startswith("vp9") else "h264"]
    hours = ", ".join(f"{name} {total / (speed * UTILISATION) / 3600:,.3g}" for name, speed in GPUS.items())
    size, counted = _size(plan.card), _size(generators.card(plan.card.name))
    at = "" if size == counted else f" (counted at {counted})"
    lines += [
        "",
        f"- Clips to make: {to_make:,} ({size}, {plan.card.num_inference_steps} steps, {plan.card.encoding}); denoiser "
        f"{total:,.0f} TFLOP{at}.",
        f"- GPU-hours, denoiser alone at {UTILISATION:.0%} of the data sheet's bf16 speed: {hours}.",
        f"- Disk: about {pixels * bits / 8 / 1e9:,.2g} GB.",
        f"- Scored with: {', '.join(card.name for card in plan.cards)}; compared with {plan.baseline}.",
    ]
    if peak := memory.forecast(plan):
        lines.append(f"- {peak}")
    if any(variant.guidance.restart for variant in plan.variants):
        lines.append("- Restart runs part of its schedule again: these extra steps are not counted.")
    lines += [f"- Missing: {line}" for line in _missing(plan)] or ["- Missing: nothing."]
    return "\n".join(lines)


def _distinct(requests: Sequence[Request]) -> int:
    """Count the clips of one variant: two cases may ask for the same. Digests of keys would take ten times as long."""
    return len({(*request.case.conditions().values(), request.seed) for request in requests})


def _absent(plan: Plan, store_path: Path) -> Mapping[str, int] | None:
    """Count the clips that the store lacks of each variant; None where there is no store."""
    if not (store_path / "store.sqlite").is_file():
        return None
    with Store(store_path, write=False) as store:
        return run.missing(plan, store)


def _missing(plan: Plan) -> list[str]:
    lines = []
    dataset = open_dataset(plan.suite)
    if dataset.missing:
        lines.append(dataset.missing)
    chosen = plan.requests[plan.baseline][0].weights
    own = {generators.card(plan.card.name).weights, *(row.source for row in generators.get(plan.card.name).checkpoints)}
    if chosen not in own and not chosen.startswith(("file:", "folder:", "random-weights")):
        lines.append(f"weights {chosen}, perhaps: no folder, and not what stg-eval fetches; the run's start will tell")
    for row in dict.fromkeys([*_model_weights(plan), *(row for card in plan.cards for row in card.weights)]):
        if not weights.is_present(row):
            lines.append(f"weights {row.name} ({weights.size(row)}): `stg-eval weights fetch {row.name}`")
    return lines


def _size(card: ModelCard) -> str:
    return f"{card.num_frames} x {card.height} x {card.width}"


def _model_weights(plan: Plan) -> list[weights.Weight]:
    """List the model's checkpoints, where it takes published ones."""
    first = plan.requests[plan.baseline][0]
    sources = {first.weights, *(str(value) for _, value in first.settings)}
    return generators.get(plan.card.name).needs(sources)
