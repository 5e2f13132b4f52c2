"""All that needs a GPU, in one command: the tests that are marked so, and the benchmarks that take --device cuda.

    make gpu            or: python benchmarks/gpu.py --device cuda:1 --only tests,guidance_speed

Writes benchmarks/gpu/<card>.json and <card>.md. Where there is no CUDA device it says so and ends with 2.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

HERE = Path(__file__).parent
STEPS: dict[str, list[str]] = {
    "tests": ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"],
    "guidance_speed": [str(HERE / "guidance_speed.py"), "--device", "{device}"],
    "opensora_steps": [str(HERE / "opensora_steps.py"), "--device", "{device}"],
    "metrics_speed": [str(HERE / "metrics_speed.py"), "--device", "{device}", "--clips", "8"],
}
"""Name -> arguments of Python. `{device}` is the device asked for."""
LIMIT = 1200
"""Seconds for all of them."""


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(STEPS)}")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device here: make gpu needs one; `make rehearsal` pretends one", file=sys.stderr)
        return 2
    gpu = torch.cuda.get_device_properties(options.device)
    end, found = time.monotonic() + LIMIT, {}
    for name in options.only.split(",") if options.only else STEPS:
        command = [sys.executable, *(argument.format(device=options.device) for argument in STEPS[name])]
        start = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, end - start), check=False)
            code, output = done.returncode, done.stdout + done.stderr[-2000:] * (done.returncode != 0)
        except subprocess.TimeoutExpired:
            code, output = 124, f"stopped: the {LIMIT} seconds for all were over"
        found[name] = {"exit": code, "seconds": round(time.monotonic() - start, 1), "output": output.strip()}
        print(f"{name}: exit {code}, {found[name]['seconds']} s", file=sys.stderr)
    record = {"card": gpu.name, "memory": gpu.total_memory, "torch": torch.__version__, "steps": found}
    folder = HERE / "gpu"
    folder.mkdir(exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    (folder / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    parts = [f"# {gpu.name}, {gpu.total_memory / 1e9:.0f} GB, torch {torch.__version__}"]
    parts += [f"## {name} (exit {one['exit']}, {one['seconds']} s)\n\n{one['output']}" for name, one in found.items()]
    (folder / f"{stem}.md").write_text("\n\n".join(parts) + "\n")
    print(folder / f"{stem}.md")
    return int(any(one["exit"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
