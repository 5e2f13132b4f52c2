"""How long large runs take where nothing is made: a dry run, a resume with nothing to do, a report.

    .venv/bin/python benchmarks/growth.py [dry-run] [resume] [report]

Each figure is one child process on stores filled with a few clips under many keys; seconds and peak memory are that
process's own, and the processor's seconds hold on a busy machine too. A run's first results need torch for its
provenance alone; the same command again takes that from its record. Targets: 100,000 prompts in 3 s, 50,000 clips in
5 s and 200 MB, 5,000 pairs in 12 s.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stg_eval import suites
from stg_eval.metrics import registry
from stg_eval.pipeline.plan import make_plan
from stg_eval.storage.store import Store
from stg_eval.storage.video import encode
from stg_eval.types import Clip, Score

METRICS = ("accuracy_sprites", "temporal_flickering")
RESUME = """
import sys
from pathlib import Path
from stg_eval import suites
from stg_eval.pipeline.plan import make_plan
from stg_eval.pipeline.run import run
plan = make_plan(suites.load("demo"), "tiny", seeds=int(sys.argv[1]), metric_names=sys.argv[2].split(","))
run(plan, store_path=Path(sys.argv[3]), output=Path(sys.argv[4]), device="cpu")
"""


def main() -> None:
    chosen = sys.argv[1:] or ["dry-run", "resume", "report"]
    with tempfile.TemporaryDirectory(prefix="stg-eval-growth-") as name:
        folder = Path(name)
        if "dry-run" in chosen:
            prompts = folder / "prompts.txt"
            prompts.write_text("".join(f"a scene with {i} birds over a lake\n" for i in range(100_000)))
            command = ["-m", "stg_eval.cli", "run", "--suite", str(prompts), "--model", "mochi", "--dry-run"]
            measure("dry run, 100,000 prompts", [*command, "--store", str(folder / "none")])
        if "resume" in chosen:
            fill(folder / "large", seeds=2084)
            arguments = ["2084", ",".join(METRICS), str(folder / "large"), str(folder / "large-run")]
            measure("results for the first time, 50,016 clips", ["-c", RESUME, *arguments])
            measure("resume with nothing to do, 50,016 clips", ["-c", RESUME, *arguments])
        if "report" in chosen:
            fill(folder / "small", seeds=417)
            arguments = ["417", ",".join(METRICS), str(folder / "small"), str(folder / "small-run")]
            measure("results for the first time, 10,008 clips", ["-c", RESUME, *arguments])
            measure("report, 5,004 pairs", ["-m", "stg_eval.cli", "report", str(folder / "small-run")])


def fill(path: Path, seeds: int) -> None:
    """A store in which every clip of the demo suite is made and scored."""
    plan = make_plan(suites.load("demo"), "tiny", seeds=seeds, metric_names=METRICS)
    rng = np.random.default_rng(0)
    drawn = [encode(rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8), 8.0, "vp9-lossless") for _ in range(16)]
    signatures = [registry.load(card, "cpu").signature for card in plan.metrics]
    with Store(path) as store:
        clips = []
        for i, request in enumerate(r for requests in plan.requests.values() for r in requests):
            file, data = store.clip_file(request), drawn[i % len(drawn)]
            file.write_bytes(data)
            size = {name: getattr(request, name) for name in ("num_frames", "height", "width", "fps", "encoding")}
            digest = hashlib.sha256(data).hexdigest()
            name = str(file.relative_to(path))
            clips.append((request, Clip(key=request.key, file=name, sha256=digest, seconds=0.1, **size)))
        store.add_clips(clips)
        values = rng.random((len(clips), len(signatures)))
        values[:, 0] = values[:, 0] < 0.5  # accuracy is right or wrong
        store.add_results(
            [
                Score(key=request.key, metric=signature, value=float(value))
                for (request, _), row in zip(clips, values, strict=True)
                for signature, value in zip(signatures, row, strict=True)
            ],
            {},
        )


def measure(what: str, arguments: list[str]) -> None:
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    seconds, busy = time.perf_counter() - start, used.ru_utime + used.ru_stime
    failed = f", exit {os.waitstatus_to_exitcode(status)}" if status else ""
    print(f"{what}: {seconds:.1f} s ({busy:.1f} s of processor), {used.ru_maxrss / 1024:,.0f} MB{failed}", flush=True)


if __name__ == "__main__":
    main()
