"""The checkpoints that ship with the package. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path


def embedded(path: Path) -> str:
    """Name a checkpoint that ships with the package, as requests and `auto[...]` have it."""
    return f"embedded@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


WEIGHTS, WEAK = (Path(__file__).with_name(name) for name in ("tiny.safetensors", "weak.safetensors"))
EMBEDDED = {embedded(path): path for path in (WEIGHTS, WEAK)}
