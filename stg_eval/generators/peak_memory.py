"""How much GPU memory a clip takes, from a table that benchmarks/peak_memory.py computed without a GPU. Imports no
torch.

The table knows every model at its published size and dtype. A clip's peak is that of its hungriest part (text, first
frame, denoiser, VAE): the weights that lie on the device then, and what the part makes on top, a line in the number of
frames that grows with the area. A GPU takes more by what the table cannot see: workspaces inside kernels, and the
allocator's unused pieces (MARGIN).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stg_eval.types import Guidance, JSONValue, StgEvalError

TABLE = Path(__file__).with_name("peak_memory.json")
MARGIN = 0.15
"""How far a peak may be above the estimate; see docs for published figures beside it."""
CARDS = {"RTX 4090": 24, "A100 40 GB": 40, "L40S": 48, "H100": 80, "H200": 141}
"""GPU -> its memory, in GB as its maker counts."""
SMALLER: tuple[dict[str, JSONValue], ...] = (
    {},
    {"vae_tiling": True},
    {"offload": "model"},
    {"offload": "model", "vae_tiling": True},
    {"offload": "sequential"},
    {"offload": "sequential", "vae_tiling": True},
)
"""Settings that take less memory, the fastest first."""
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNS = {"text": "encoder", "encode": "vae", "step": "denoiser", "decode": "vae"}
"""Part of a clip -> the networks that it runs."""


@dataclass(frozen=True)
class Size:
    """What a clip's peak depends on."""

    height: int
    width: int
    num_frames: int


def role(component: str) -> str:
    """Say which part of a clip a component of a pipeline runs in: "encoder", "denoiser" or "vae"."""
    if "transformer" in component or component == "unet":
        return "denoiser"
    return "vae" if "vae" in component or component == "vocoder" else "encoder"


def peak(
    model: str,
    published: Size,
    size: Size,
    *,
    dtype: str,
    guidance: Guidance,
    settings: Mapping[str, JSONValue],
) -> int | None:
    """Return the most bytes that lie on the GPU while a clip is made; None for a model that the table does not have.

    published: the size of the model's card. offload=group counts as offload=model, which takes more.
    """
    row = _table().get(model)
    if row is None:
        return None
    kind = "stg" if guidance.skips or guidance.auto else "cfg" if guidance.cfg_scale > 1 else "none"
    larger = ITEMSIZE[dtype] / ITEMSIZE[row["dtype"]]
    area = size.height * size.width / (published.height * published.width)
    tiled = bool(settings.get("vae_tiling"))
    made = {
        "text": row["text"],
        "encode": row["encode"] * area,
        "step": _line(row["step"][kind], size.num_frames) * area,
        "decode": _decode(row, size.num_frames, area, tiled),
    }
    weights: Mapping[str, int] = row["weights"]
    if settings.get("quantize") == "fp8":
        weights = {k: v // 2 if role(k) == "denoiser" else v for k, v in weights.items()}
    if guidance.auto:
        weights = {**weights, "second transformer": sum(v for k, v in weights.items() if role(k) == "denoiser")}
    way = settings.get("offload", "none")
    parts = []
    for part, bytes_made in made.items():
        held = sum(weights.values())
        if way in ("model", "group", "sequential"):
            held = max((v for k, v in weights.items() if role(k) == RUNS[part]), default=0)
        if way == "sequential":
            held = min(held, row["largest_layer"])
        parts.append((held + bytes_made) * larger)
    return round(max(parts))


def check_fits(title: str, needs: Mapping[str, int], memory: int) -> None:
    """Raises StgEvalError where the estimate alone is more than the device has, with the setting that would fit.

    needs: what is written after --set -> peak in bytes; "" is what was asked for.
    """
    if needs[""] <= memory:
        return
    fits = next((setting for setting, need in needs.items() if need * (1 + MARGIN) <= memory), None)
    advice = " ".join(f"--set {one}" for one in fits.split()) if fits else "a smaller size or a larger GPU"
    raise StgEvalError(
        f"{title} needs about {needs[''] / 1e9:.0f} GB and this GPU has {memory / 1e9:.0f} GB; try {advice}"
    )


def _decode(row: Mapping[str, Any], num_frames: int, area: float, tiled: bool) -> float:
    if not tiled or "decode_tiled" not in row:
        return _line(row["decode"], num_frames) * area
    fixed, each = row["decode_tiled"]  # a tile is the same for every area; the clip it adds to is not
    return min(fixed + each * num_frames * area, _line(row["decode"], num_frames) * area)


def _line(numbers: tuple[float, float], num_frames: int) -> float:
    return max(0.0, numbers[0] + numbers[1] * num_frames)


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found
