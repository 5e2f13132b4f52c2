"""GPU memory that a plan's clips take: forecast in a dry run, refused before anything is loaded where it cannot fit."""

from __future__ import annotations

from stg_eval import generators
from stg_eval.generators import peak_memory
from stg_eval.generators.peak_memory import CARDS, MARGIN, SMALLER, Size, check_fits
from stg_eval.pipeline.plan import Plan


def forecast(plan: Plan) -> str | None:
    """Return one line: the hungriest variant's peak, which GPUs it fits, and what offloading would make of it; None for
    a model that needs no GPU."""
    if "offload" not in generators.card(plan.card.name).settings:
        return None
    found = _needs(plan)
    if found is None:
        return f"Peak memory: not known for {plan.card.name} with {plan.card.weights}."
    variant, needs = found
    card, now = plan.card, needs[""]
    fits = [name for name, size in CARDS.items() if now * (1 + MARGIN) <= size * 1e9]
    where = ", ".join(fits) or f"none of {', '.join(CARDS)}"
    smaller, least = [], now
    for setting, need in needs.items():
        if need < 0.95 * least:
            smaller.append(f"; with {setting} {_gb(need)}")
            least = need
    size = f"{card.num_frames} frames of {card.height} x {card.width}"
    return (
        f"Peak memory: {_gb(now)} ({card.title}, {card.dtype}, {size}, {variant}); fits, with {MARGIN:.0%} to spare: "
        f"{where}{''.join(smaller)}."
    )


def check(plan: Plan, device: str) -> None:
    """Raises StgEvalError where the device has less memory than the clips take, with the setting that would fit."""
    found = _needs(plan) if device.startswith("cuda") else None
    if found is None:
        return
    import torch

    memory = torch.cuda.get_device_properties(device).total_memory
    check_fits(f"{plan.card.title} at this size", found[1], memory)


def _needs(plan: Plan) -> tuple[str, dict[str, int]] | None:
    """Return the variant with the largest peak, and that peak as it is asked for ("") and with other settings, by what
    is written after --set; None if it is not known."""
    published = generators.card(plan.card.name)
    if plan.card.weights != published.weights:
        return None
    most: tuple[str, dict[str, int]] | None = None
    for variant in plan.variants:
        request = plan.requests[variant.name][0]
        needs = {}
        for setting in SMALLER:
            if not set(setting) <= set(published.settings):
                continue
            peak = peak_memory.peak(
                published.name,
                Size(published.height, published.width, published.num_frames),
                Size(request.height, request.width, request.num_frames),
                dtype=request.dtype,
                guidance=request.guidance,
                settings={**dict(request.settings), **setting},
            )
            if peak is None:
                return None
            needs[" ".join(f"{name}={str(value).lower()}" for name, value in setting.items())] = peak
        if most is None or needs[""] >= most[1][""]:
            most = str(variant.guidance), needs
    return most


def _gb(size: int) -> str:
    return f"{size / 1e9:.0f} GB" if size >= 1e10 else f"{size / 1e9:.1f} GB"
