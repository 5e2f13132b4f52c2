"""What a run would make, reuse and cost. Reads the store if there is one; writes and loads nothing."""

from __future__ import annotations

from pathlib import Path

from stg_eval import weights
from stg_eval.plan import Plan
from stg_eval.store import Store
from stg_eval.suites import open_dataset

GPUS = {"A100": 312.0, "H100": 989.0, "RTX 4090": 165.0}
"""Dense bf16 TFLOP/s of the makers' data sheets."""
UTILISATION = 0.4
"""Share of that which a video transformer typically reaches: an assumption, printed with the estimate."""
BITS_PER_PIXEL = {"h264": 0.25, "vp9": 6.0}
"""Rough size of stored clips, for the disk estimate."""


def forecast(plan: Plan, store_path: Path) -> str:
    """Markdown: clips to make and to reuse, TFLOP, GPU-hours, disk, and what is still missing."""
    absent = _absent(plan, store_path)
    lines = [
        f"Dry run: {plan.suite.title} with {plan.card.title}, nothing is made.",
        "",
        "| guidance | clips | in the store | to make | TFLOP a clip | TFLOP |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    seen: set[str] = set()
    total = pixels = 0.0
    to_make = 0
    for variant in plan.variants:
        requests = plan.requests[variant.name]
        new = [r for r in requests if r.key in absent and r.key not in seen]
        seen.update(r.key for r in new)
        each = plan.tflops(variant.name)
        total += each * len(new)
        to_make += len(new)
        pixels += sum(r.num_frames * r.height * r.width for r in new)
        lines.append(
            f"| {variant.name} (`{variant.guidance}`) | {len(requests):,} | {len(requests) - len(new):,} "
            f"| {len(new):,} | {each:,.3g} | {each * len(new):,.6g} |"
        )
    bits = BITS_PER_PIXEL["vp9" if plan.card.encoding.startswith("vp9") else "h264"]
    hours = ", ".join(f"{name} {total / (speed * UTILISATION) / 3600:,.3g}" for name, speed in GPUS.items())
    size = f"{plan.card.num_frames} x {plan.card.height} x {plan.card.width}, {plan.card.num_inference_steps} steps"
    lines += [
        "",
        f"- Clips to make: {to_make:,} ({size}, {plan.card.encoding}); denoiser {total:,.6g} TFLOP.",
        f"- GPU-hours, denoiser alone at {UTILISATION:.0%} of the data sheet's bf16 speed: {hours}.",
        f"- Disk: about {pixels * bits / 8 / 1e9:,.2g} GB.",
        f"- Scored with: {', '.join(card.name for card in plan.metrics)}; compared with {plan.baseline}.",
    ]
    lines += [f"- Missing: {line}" for line in _missing(plan)] or ["- Missing: nothing."]
    return "\n".join(lines)


def _absent(plan: Plan, store_path: Path) -> set[str]:
    keys = {r.key for requests in plan.requests.values() for r in requests}
    if not (store_path / "store.sqlite").is_file():
        return keys
    with Store(store_path, write=False) as store:
        return {key for key in keys if store.clip(key) is None}


def _missing(plan: Plan) -> list[str]:
    lines = []
    dataset = open_dataset(plan.suite)
    if dataset.missing:
        lines.append(dataset.missing)
    for name in dict.fromkeys(w for card in plan.metrics for w in card.weights):
        if not weights.is_present(name):
            lines.append(f"weights {name} ({weights.size(weights.weight(name))}): `stg-eval weights fetch {name}`")
    return lines
