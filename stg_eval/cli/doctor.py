"""Checks of the machine: what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from stg_eval.cli.listing import print_table
from stg_eval.provenance import version

State = Literal["ok", "absent", "BROKEN"]
"""absent: something cannot be done without it, the rest can. BROKEN: nothing runs."""


def report(store: Path) -> int:
    """Print every check; returns 1 if something is broken, else 0."""
    rows = [*_python(), *_torch(), *_codecs(), *_packages(), *_disk(store), *_weights()]
    print_table(["check", "state", "", "what to do"], [list(row) for row in rows])
    return int(any(state == "BROKEN" for _, state, *_ in rows))


Row = tuple[str, State, str, str]


def _python() -> Iterator[Row]:
    fine = sys.version_info >= (3, 11)
    yield (
        "Python",
        "ok" if fine else "BROKEN",
        platform.python_version(),
        "" if fine else "install Python 3.11 or newer",
    )


def _torch() -> Iterator[Row]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError) as error:
        what = "pip install --constraint constraints.txt torch torchvision (the two must fit each other)"
        yield "torch", "BROKEN", str(error).splitlines()[0], what
        return
    yield "torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}", ""
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            yield f"GPU {i}", "ok", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB", ""
    else:
        yield "GPU", "absent", "torch sees none", "the embedded model runs on a CPU; the large models need a CUDA GPU"


def _codecs() -> Iterator[Row]:
    import av

    for codec in ("libvpx-vp9", "libx264"):
        fine = codec in av.codecs_available
        yield (
            codec,
            "ok" if fine else "BROKEN",
            f"PyAV {av.__version__}",
            "" if fine else "pip install --force-reinstall av",
        )


def _packages() -> Iterator[Row]:
    wanted = {
        "vbench": "pip install --no-deps vbench   (motion smoothness and dynamic degree use its networks)",
        "pyiqa": "pip install --no-deps pyiqa   (imaging quality)",
        "decord": "pip install decord   (another reader: --reader decord; PyAV is the default)",
    }
    for name, what in wanted.items():
        found = version(name)
        yield name, "ok" if found else "absent", found or "", "" if found else what
    found = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
    what = "" if found else "install Chromium; only tests of the page need it"
    yield "Chromium", "ok" if found else "absent", found or "", what


def _disk(store: Path) -> Iterator[Row]:
    there = next(path for path in (store.absolute(), *store.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 2**30
    yield (
        "disk",
        "ok" if free > 1 else "BROKEN",
        f"{free:.0f} GiB free for {store}",
        "" if free > 1 else "free some space",
    )


def _weights() -> Iterator[Row]:
    from stg_eval import weights
    from stg_eval.pipeline import checkpoints

    for name, row in checkpoints.catalogue().items():
        here, told = weights.is_present(row), f"{weights.size(row)}, {row.licence}, {weights.digest(row)}"
        yield f"weights {name}", "ok" if here else "absent", told, "" if here else f"stg-eval weights fetch {name}"
