"""Where numbers come from: versions, machine, attention backend, git commit. Recorded in every run."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from stg_eval.storage.record import Provenance
from stg_eval.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "vbench",
    "torchmetrics",
    "pyiqa",
    "numpy",
    "scipy",
    "av",
)


def provenance(device: str, before: Provenance | None = None) -> Provenance:
    """Record versions and machine, as they are now. `before` is what an earlier run recorded in the same place: if it
    says the same and nothing has needed torch since, the rest is taken from it, since torch takes seconds and half a
    gigabyte to import."""
    now: dict[str, Any] = {
        "stg_eval": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": device,
    }
    if before and "torch" not in sys.modules and all(getattr(before, name) == value for name, value in now.items()):
        return before
    import torch

    on_gpu = device.startswith("cuda")
    return Provenance(
        **now,
        threads=torch.get_num_threads(),
        attention=tuple(_attention_backends(torch)),
        gpu=torch.cuda.get_device_name(device) if on_gpu else None,
        cuda=torch.version.cuda if on_gpu else None,
        driver=_driver() if on_gpu else None,
    )


def version(package: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _attention_backends(torch: Any) -> list[str]:
    """Return scaled-dot-product kernels that torch may choose from here."""
    cuda = torch.backends.cuda
    named = {
        "flash": cuda.flash_sdp_enabled(),
        "mem_efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
    }
    return [name for name, enabled in named.items() if enabled]


def _driver() -> str | None:
    return _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])


def _git_commit() -> str | None:
    """Return the commit of this package's own checkout, with "+" for uncommitted changes; None for an installed
    package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit = _output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    dirty = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return commit and commit + ("+" if dirty else "")


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
